#include "dsm/io/tls_session.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "dsm/base/check.h"

namespace ppdsm {

namespace {

constexpr std::size_t kPlainBytes = std::size_t{16} << 10;
// Length-prefixed, as ALPN wants them.
constexpr std::string_view kMemberProtocol = "\x0cppdsm-member";
constexpr std::string_view kJoinProtocol = "\x0appdsm-join";

const unsigned char* wire_text(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}

int verify(X509_STORE_CTX* store, void* /*unused*/) {
    auto* ssl =
        static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
    auto* session = static_cast<TlsSession*>(SSL_get_app_data(ssl));
    if (session->judge_certificate(X509_STORE_CTX_get0_cert(store))) return 1;
    X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
    return 0;
}

int choose_protocol(SSL* /*ssl*/, const unsigned char** chosen, unsigned char* chosen_bytes,
                    const unsigned char* offered, unsigned offered_bytes, void* /*unused*/) {
    for (const std::string_view ours : {kMemberProtocol, kJoinProtocol}) {
        unsigned char* found = nullptr;
        if (SSL_select_next_proto(&found, chosen_bytes, wire_text(ours),
                                  static_cast<unsigned>(ours.size()), offered,
                                  offered_bytes) == OPENSSL_NPN_NEGOTIATED) {
            *chosen = found;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

}  // namespace

Result<TlsContext> TlsContext::create(const PeerKey& key) {
    TlsContext tls;
    tls.context_ = std::shared_ptr<SSL_CTX>(SSL_CTX_new(TLS_method()), SSL_CTX_free);
    SSL_CTX* context = tls.context_.get();
    if (context == nullptr || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_use_certificate(context, key.certificate()) != 1 ||
        SSL_CTX_use_PrivateKey(context, key.key()) != 1) {
        return fail(Code::kUnsupported, "prepare TLS: " + last_tls_error());
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    SSL_CTX_set_cert_verify_callback(context, verify, nullptr);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, nullptr);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    return tls;
}

Result<std::unique_ptr<TlsSession>> TlsSession::create(const TlsContext& context, Role role,
                                                       LinkPurpose purpose, Judge judge) {
    std::unique_ptr<TlsSession> session(new TlsSession(role, purpose, std::move(judge)));
    session->ssl_ = {SSL_new(context.get()), SSL_free};
    SSL* ssl = session->ssl_.get();
    if (ssl == nullptr) return fail(Code::kOverloaded, "no memory for a TLS session");
    SSL_set_app_data(ssl, session.get());
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    if (role == Role::kAccepts) {
        SSL_set_accept_state(ssl);
        return session;
    }
    SSL_set_connect_state(ssl);
    const std::string_view protocol =
        purpose == LinkPurpose::kJoin ? kJoinProtocol : kMemberProtocol;
    SSL_set_alpn_protos(ssl, wire_text(protocol), static_cast<unsigned>(protocol.size()));
    PPDSM_TRY(session->advance());
    return session;
}

TlsSession::~TlsSession() = default;

LinkPurpose TlsSession::purpose() const {
    if (role_ == Role::kConnects) return purpose_;
    const unsigned char* chosen = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl_.get(), &chosen, &size);
    const std::string_view name(reinterpret_cast<const char*>(chosen), size);
    return name == kJoinProtocol.substr(1) ? LinkPurpose::kJoin : LinkPurpose::kMember;
}

bool TlsSession::judge_certificate(X509* certificate) {
    EVP_PKEY* key = certificate == nullptr ? nullptr : X509_get0_pubkey(certificate);
    std::size_t size = peer_key_.bytes.size();
    if (key == nullptr || EVP_PKEY_get_id(key) != EVP_PKEY_ED25519 ||
        EVP_PKEY_get_raw_public_key(key, peer_key_.bytes.data(), &size) != 1) {
        judged_ = Error(Code::kInvalid, "the other side showed no Ed25519 key");
        return false;
    }
    const Status verdict = judge_(peer_key_, purpose());
    if (!verdict) judged_ = verdict.error();
    return verdict.has_value();
}

Error TlsSession::explain_alert(int alert) const {
    // What a judge's refusal becomes on its way.
    const bool is_sought = role_ == Role::kAccepts && purpose() == LinkPurpose::kJoin;
    if (alert != SSL_AD_BAD_CERTIFICATE || is_sought) {
        return {Code::kUnavailable, "the other side refuses to talk: " + last_tls_error()};
    }
    if (purpose_ == LinkPurpose::kJoin) {
        return {
            Code::kInvalid,
            "the other side refused our key: nobody is invited there; ask for a new invitation"};
    }
    return {Code::kInvalid,
            "the other side refused our key: we are not on its mesh's allow list; `ppdsm peer "
            "invite` at one of its peers makes an invitation, `ppdsm peer join` here uses it"};
}

Error TlsSession::explain(int result) {
    if (judged_) return *judged_;
    const int kind = SSL_get_error(ssl_.get(), result);
    const unsigned long code = ERR_peek_last_error();
    const int reason = ERR_GET_REASON(code);
    if (kind == SSL_ERROR_ZERO_RETURN) return {Code::kUnavailable, "the other side closed"};
    // Alerts that the other side sent are numbered from here on.
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET) {
        return explain_alert(reason - SSL_AD_REASON_OFFSET);
    }
    return {Code::kCorrupt, "TLS: " + last_tls_error()};
}

Status TlsSession::advance() {
    if (open_) return {};
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_.get());
    if (result == 1) {
        open_ = true;
        return {};
    }
    const int kind = SSL_get_error(ssl_.get(), result);
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) return {};
    return fail(explain(result));
}

Status TlsSession::receive(ByteView wire, const std::function<Status(ByteView)>& plain) {
    BIO_write(SSL_get_rbio(ssl_.get()), wire.data(), static_cast<int>(wire.size()));
    PPDSM_TRY(advance());
    if (!open_) return {};
    std::array<std::uint8_t, kPlainBytes> buffer;  // NOLINT: filled by SSL_read.
    for (;;) {
        ERR_clear_error();
        const int got = SSL_read(ssl_.get(), buffer.data(), static_cast<int>(buffer.size()));
        if (got > 0) {
            PPDSM_TRY(plain(ByteView(buffer.data(), static_cast<std::size_t>(got))));
            continue;
        }
        const int kind = SSL_get_error(ssl_.get(), got);
        if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) return {};
        return fail(explain(got));
    }
}

Status TlsSession::send(ByteView plain) {
    ERR_clear_error();
    while (!plain.empty()) {
        const std::size_t take = std::min<std::size_t>(plain.size(), std::size_t{1} << 20);
        const int sent = SSL_write(ssl_.get(), plain.data(), static_cast<int>(take));
        if (sent <= 0) return fail(explain(sent));
        plain = plain.subspan(static_cast<std::size_t>(sent));
    }
    return {};
}

std::size_t TlsSession::take_wire(Bytes& buffer) {
    BIO* out = SSL_get_wbio(ssl_.get());
    const std::size_t size = BIO_ctrl_pending(out);
    if (size == 0) return 0;
    if (buffer.size() < size) buffer.resize(size);
    PPDSM_CHECK(BIO_read(out, buffer.data(), static_cast<int>(size)) == static_cast<int>(size));
    return size;
}

std::array<std::uint8_t, 32> TlsSession::channel_binding() const {
    std::array<std::uint8_t, 32> value{};
    constexpr std::string_view kLabel = "EXPORTER-ppdsm-join";
    PPDSM_CHECK(SSL_export_keying_material(ssl_.get(), value.data(), value.size(), kLabel.data(),
                                           kLabel.size(), nullptr, 0, 0) == 1);
    return value;
}

}  // namespace ppdsm
