#include "dsm/io/link.h"

#include "dsm/io/link_connection.h"

namespace ppdsm {

std::string Endpoint::to_string() const {
    return host.find(':') == std::string::npos ? host + ":" + port : "[" + host + "]:" + port;
}

Result<Endpoint> Endpoint::parse(const std::string& text) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos || colon + 1 == text.size()) {
        return ppdsm::fail(Code::kInvalid, "\"" + text + "\" is no address: expected HOST:PORT");
    }
    Endpoint endpoint{text.substr(0, colon), text.substr(colon + 1)};
    if (endpoint.host.starts_with("[") && endpoint.host.ends_with("]")) {
        endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
    }
    const bool digits = endpoint.port.find_first_not_of("0123456789") == std::string::npos;
    if (endpoint.host.empty() || !digits || endpoint.port.size() > 5 ||
        std::stoul(endpoint.port) > 65535) {
        return ppdsm::fail(Code::kInvalid, "\"" + text + "\" is no address: expected HOST:PORT");
    }
    return endpoint;
}

std::unique_ptr<Link> Link::connect(Loop& loop, const TlsContext& tls, const Endpoint& endpoint,
                                    LinkPurpose purpose, TlsSession::Judge judge) {
    auto connection = std::make_shared<Connection>(loop, TlsSession::Role::kConnects, purpose);
    connection->connect(tls, endpoint, std::move(judge));
    return std::unique_ptr<Link>(new Link(std::move(connection)));
}

Link::~Link() { connection_->abandon(); }
void Link::listen(Callbacks callbacks) { connection_->callbacks = std::move(callbacks); }
void Link::send(Priority priority, MessageType type, std::uint64_t correlation, ByteView payload) {
    connection_->send(priority, type, correlation, payload);
}
void Link::send_join_bytes(ByteView bytes) { connection_->send_join_bytes(bytes); }
std::size_t Link::waiting_bytes(Priority priority) const {
    return connection_->waiting_bytes(priority);
}
void Link::close() { connection_->close(); }
bool Link::is_open() const { return connection_->is_open(); }
PeerId Link::peer() const { return peer_key().id(); }
const PublicKey& Link::peer_key() const { return connection_->tls()->peer_key(); }
LinkPurpose Link::purpose() const { return connection_->purpose(); }
bool Link::was_accepted() const { return connection_->role() == TlsSession::Role::kAccepts; }
const std::string& Link::remote_host() const { return connection_->remote_host(); }
std::array<std::uint8_t, 32> Link::channel_binding() const {
    return connection_->tls()->channel_binding();
}

}  // namespace ppdsm
