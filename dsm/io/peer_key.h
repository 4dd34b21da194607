// A peer's key pair: Ed25519, made at the first start and kept for good. Its public half names the
// peer and is what other peers trust.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>

#include "dsm/base/files.h"
#include "dsm/base/peer_id.h"
#include "dsm/base/result.h"

struct evp_pkey_st;
struct x509_st;

namespace ppdsm {

struct PublicKey {
    std::array<std::uint8_t, 32> bytes{};
    auto operator<=>(const PublicKey&) const = default;
    /// The first 20 bytes of the key's SHA-256.
    [[nodiscard]] PeerId id() const;
    /// Whether the key's owner has signed these bytes.
    [[nodiscard]] bool verifies(ByteView message, ByteView signature) const;
};

class PeerKey {
public:
    /// From the PEM file at `path`, which is made if it is absent. kInvalid: others may read it;
    /// kCorrupt: it holds no Ed25519 key.
    static Result<PeerKey> load_or_create(const std::filesystem::path& path);

    [[nodiscard]] const PublicKey& public_key() const { return public_key_; }
    [[nodiscard]] PeerId id() const { return public_key_.id(); }
    /// 64 bytes; Ed25519.
    [[nodiscard]] Bytes sign(ByteView message) const;
    [[nodiscard]] evp_pkey_st* key() const { return key_.get(); }
    /// Self-signed, for TLS; valid at any time, so that a wrong clock does no harm.
    [[nodiscard]] x509_st* certificate() const { return certificate_.get(); }

private:
    PeerKey() = default;
    Status adopt(evp_pkey_st* key);
    std::shared_ptr<evp_pkey_st> key_;
    std::shared_ptr<x509_st> certificate_;
    PublicKey public_key_;
};

/// Bytes that nobody can guess.
void fill_random(std::span<std::uint8_t> bytes);
/// HMAC-SHA256.
std::array<std::uint8_t, 32> authenticate(ByteView key, ByteView message);
std::array<std::uint8_t, 32> sha256(ByteView message);
/// Takes as long whatever differs.
[[nodiscard]] bool equal_in_constant_time(ByteView a, ByteView b);

/// OpenSSL's words for what went wrong last, and forgets them.
std::string last_tls_error();

}  // namespace ppdsm
