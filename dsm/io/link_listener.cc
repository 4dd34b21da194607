#include <netdb.h>

#include <list>

#include "dsm/io/link.h"
#include "dsm/io/link_connection.h"

namespace ppdsm {

namespace {

constexpr int kBacklog = 256;
/// Connections that have not said yet who they are.
constexpr std::size_t kMaxUnknown = 64;

}  // namespace

struct LinkListener::Impl {
    Impl(Loop& its_loop, const TlsContext& its_tls, TlsSession::Judge its_judge, OnLink its_on_link)
        : loop(its_loop),
          tls(its_tls),
          judge(std::move(its_judge)),
          on_link(std::move(its_on_link)) {}

    void accept(int status);
    void forget(const Link::Connection* connection, const Error& why);
    void hand_over(const Link::Connection* connection);

    Loop& loop;
    TlsContext tls;
    TlsSession::Judge judge;
    OnLink on_link;
    UvHandle<uv_tcp_t> handle;
    std::uint16_t port = 0;
    std::uint64_t refusals = 0;
    std::string last_refusal;
    std::function<void(const std::string& host, const Error& why)> on_refusal;
    std::list<std::shared_ptr<Link::Connection>> unknown;  ///< Oldest first.
};

void LinkListener::Impl::accept(int status) {
    if (status != 0) return;
    auto connection =
        std::make_shared<Link::Connection>(loop, TlsSession::Role::kAccepts, LinkPurpose::kMember);
    const Status accepted =
        connection->accept(tls, reinterpret_cast<uv_stream_t*>(handle.get()), judge);
    if (!accepted) return;
    if (unknown.size() >= kMaxUnknown) {
        const auto oldest = unknown.front();
        oldest->fail({Code::kOverloaded, "too many connections that do not say who they are"});
    }
    const Link::Connection* name = connection.get();
    connection->callbacks.on_open = [this, name] { hand_over(name); };
    connection->callbacks.on_closed = [this, name](const Error& why, bool) { forget(name, why); };
    unknown.push_back(std::move(connection));
}

void LinkListener::Impl::forget(const Link::Connection* connection, const Error& why) {
    ++refusals;
    last_refusal = why.message();
    if (on_refusal) on_refusal(connection->remote_host(), why);
    std::erase_if(unknown, [&](const auto& each) { return each.get() == connection; });
}

void LinkListener::Impl::hand_over(const Link::Connection* connection) {
    for (auto each = unknown.begin(); each != unknown.end(); ++each) {
        if (each->get() != connection) continue;
        const std::shared_ptr<Link::Connection> open = std::move(*each);
        unknown.erase(each);
        open->callbacks = {};
        return on_link(std::unique_ptr<Link>(new Link(open)));
    }
}

LinkListener::LinkListener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

LinkListener::~LinkListener() {
    for (const auto& connection : impl_->unknown) connection->abandon();
}

void LinkListener::watch_refusals(
    std::function<void(const std::string& host, const Error& why)> watcher) {
    impl_->on_refusal = std::move(watcher);
}

std::uint16_t LinkListener::port() const { return impl_->port; }
std::uint64_t LinkListener::refusals() const { return impl_->refusals; }
const std::string& LinkListener::last_refusal() const { return impl_->last_refusal; }

Result<std::unique_ptr<LinkListener>> LinkListener::listen(Loop& loop, const TlsContext& tls,
                                                           const Endpoint& endpoint,
                                                           TlsSession::Judge judge,
                                                           OnLink on_link) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    const int resolved =
        ::getaddrinfo(endpoint.host.c_str(), endpoint.port.c_str(), &hints, &found);
    if (resolved != 0) {
        return fail(Code::kInvalid,
                    "listen at " + endpoint.to_string() + ": " + ::gai_strerror(resolved));
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, ::freeaddrinfo);
    auto impl = std::make_unique<Impl>(loop, tls, std::move(judge), std::move(on_link));
    uv_tcp_t* tcp = impl->handle.get();
    uv_tcp_init(loop.get(), tcp);
    tcp->data = impl.get();
    int listening = uv_tcp_bind(tcp, addresses->ai_addr, 0);
    if (listening == 0) {
        listening = uv_listen(reinterpret_cast<uv_stream_t*>(tcp), kBacklog,
                              [](uv_stream_t* stream, int status) {
                                  if (stream->data == nullptr) return;
                                  static_cast<Impl*>(stream->data)->accept(status);
                              });
    }
    if (listening != 0) {
        return fail(Error(Code::kUnavailable, -listening,
                          "listen at " + endpoint.to_string() +
                              " (another daemon there? choose another with --listen)"));
    }
    sockaddr_storage bound{};
    int size = sizeof bound;
    uv_tcp_getsockname(tcp, reinterpret_cast<sockaddr*>(&bound), &size);
    impl->port =
        ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                          : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
    return std::unique_ptr<LinkListener>(new LinkListener(std::move(impl)));
}

}  // namespace ppdsm
