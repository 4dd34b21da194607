// One end of a TLS 1.3 connection without its socket: bytes from the wire go in, plain bytes come
// out, and the other way round. Both sides show a key; who the other is, is decided by the caller
// inside the handshake, before a byte of what it says is looked at.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "dsm/io/peer_key.h"

struct ssl_ctx_st;
struct ssl_st;

namespace ppdsm {

/// Why two peers talk: as members of one mesh, or since one wants to become a member.
enum class LinkPurpose : std::uint8_t { kMember, kJoin };

class TlsContext {
public:
    static Result<TlsContext> create(const PeerKey& key);
    [[nodiscard]] ssl_ctx_st* get() const { return context_.get(); }

private:
    std::shared_ptr<ssl_ctx_st> context_;
};

class TlsSession {
public:
    enum class Role : std::uint8_t { kConnects, kAccepts };
    /// Whether to talk to the owner of that key; the error says why not.
    using Judge = std::function<Status(const PublicKey& key, LinkPurpose purpose)>;

    static Result<std::unique_ptr<TlsSession>> create(const TlsContext& context, Role role,
                                                      LinkPurpose purpose, Judge judge);
    ~TlsSession();
    TlsSession(const TlsSession&) = delete;
    TlsSession& operator=(const TlsSession&) = delete;

    /// Bytes from the wire; `plain` gets what they say. kUnavailable: the other side refused us, or
    /// closed; kInvalid: the judge's word; kCorrupt: no TLS.
    Status receive(ByteView wire, const std::function<Status(ByteView)>& plain);
    /// Once the handshake is done.
    Status send(ByteView plain);
    /// What is to go onto the wire now: so many bytes at the beginning of `buffer`, which grows as
    /// it must and is good for any number of calls.
    [[nodiscard]] std::size_t take_wire(Bytes& buffer);

    [[nodiscard]] bool is_open() const { return open_; }
    [[nodiscard]] const PublicKey& peer_key() const { return peer_key_; }
    [[nodiscard]] LinkPurpose purpose() const;
    /// A value that only the two ends of this session know.
    [[nodiscard]] std::array<std::uint8_t, 32> channel_binding() const;

    /// For the verification inside the handshake.
    bool judge_certificate(x509_st* certificate);

private:
    TlsSession(Role role, LinkPurpose purpose, Judge judge)
        : role_(role), purpose_(purpose), judge_(std::move(judge)) {}
    Status advance();
    Error explain(int result);
    [[nodiscard]] Error explain_alert(int alert) const;

    Role role_;
    LinkPurpose purpose_;
    Judge judge_;
    std::unique_ptr<ssl_st, void (*)(ssl_st*)> ssl_{nullptr, nullptr};
    std::optional<Error> judged_;
    PublicKey peer_key_;
    bool open_ = false;
};

}  // namespace ppdsm
