// Invitations: how a key gets onto the allow list. The inviter makes a token that works once and
// for a while; whoever shows it over TLS, bound to that connection and to its own key, is admitted.
// The token itself never travels. dsm/WIRE.md has the bytes of the exchange.
#pragma once

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "dsm/io/peer_key.h"

namespace ppdsm {

/// What a token says.
struct Invitation {
    PeerId inviter;
    std::array<std::uint8_t, 8> id{};
    std::array<std::uint8_t, 16> secret{};
    std::vector<std::string> addresses;

    [[nodiscard]] std::string to_token() const;
    /// kInvalid: it is no token, or was cut.
    static Result<Invitation> parse(std::string_view token);
};

inline constexpr std::size_t kJoinRequestBytes = 128;
inline constexpr std::size_t kJoinAnswerBytes = 16;

enum class JoinVerdict : std::uint8_t { kAdmitted = 0, kRefused = 1, kExpired = 2, kUsed = 3 };
/// For the one who asked.
Status explain_verdict(JoinVerdict verdict);

/// The joiner's one message: proves that it has the token.
Bytes encode_join_request(const Invitation& invitation, const PublicKey& key,
                          const std::array<std::uint8_t, 32>& channel, const std::string& name);
Bytes encode_join_answer(JoinVerdict verdict);
Result<JoinVerdict> decode_join_answer(ByteView bytes);

/// The inviter's open invitations, in invites.json.
class Invitations {
public:
    static Result<Invitations> open(const std::filesystem::path& path);

    Result<Invitation> issue(const PeerId& inviter, std::vector<std::string> addresses,
                             std::int64_t valid_ms);
    [[nodiscard]] bool has_open() const;

    struct Request {
        JoinVerdict verdict = JoinVerdict::kRefused;
        std::string name;
    };
    /// An admission is used up durably before it is told.
    Result<Request> judge(ByteView request, const PublicKey& key,
                          const std::array<std::uint8_t, 32>& channel);

private:
    struct Open {
        std::array<std::uint8_t, 8> id{};
        std::array<std::uint8_t, 32> proof_key{};
        std::int64_t expires_unix_ms = 0;
        bool used = false;
    };
    explicit Invitations(std::filesystem::path path) : path_(std::move(path)) {}
    Status save() const;
    std::filesystem::path path_;
    std::vector<Open> open_;
};

}  // namespace ppdsm
