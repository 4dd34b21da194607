// This daemon's part in the mesh: its key, its links to the other peers, who they are and whether
// they live. Messages of other rooms travel through send() and request(); whose they are is decided
// by their type. On the loop's thread.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dsm/io/link.h"
#include "runtime/core/membership.h"
#include "runtime/peer/mesh/invite.h"
#include "runtime/peer/mesh/trust.h"

namespace spdlog {
class logger;  // NOLINT(readability-identifier-naming): the library's.
}

namespace ppdsm {

class Mesh {
public:
    struct Setup {
        std::filesystem::path home;
        std::string name;
        Endpoint listen;
        std::vector<Endpoint> advertised;  ///< Where others reach us; empty: found out.
        std::shared_ptr<spdlog::logger> log;
    };
    static Result<std::unique_ptr<Mesh>> start(Loop& loop, Setup setup);
    ~Mesh();
    Mesh(const Mesh&) = delete;
    Mesh& operator=(const Mesh&) = delete;

    using OnMember = std::function<void(const Member& now, std::optional<MemberState> before,
                                        const std::string& why)>;
    void watch_members(OnMember on_member) { on_member_ = std::move(on_member); }
    /// A link that carries messages; and its end.
    void watch_links(std::function<void(const PeerId&, bool is_open)> on_link) {
        on_link_ = std::move(on_link);
    }

    /// Bulk messages to that peer have room again.
    void watch_drained(std::function<void(const PeerId&)> on_drained) {
        on_drained_ = std::move(on_drained);
    }

    [[nodiscard]] const Member& self() const { return membership_->self(); }
    [[nodiscard]] std::vector<const Member*> members() const { return membership_->members(); }
    /// Ourselves too; null: nobody has that id.
    [[nodiscard]] const Member* find(const PeerId& id) const;
    /// By id, by the beginning of one, or by name; kNotFound, kInvalid when it is not clear.
    [[nodiscard]] Result<PeerId> resolve(const std::string& text) const;
    /// "name (abcd-efgh)", for people.
    [[nodiscard]] std::string describe(const PeerId& id) const;
    [[nodiscard]] bool is_linked(const PeerId& peer) const;
    /// Alive, as far as we know.
    [[nodiscard]] bool is_alive(const PeerId& peer) const;
    [[nodiscard]] std::vector<std::string> addresses() const;
    void advertise(Bytes advert);

    /// Who takes messages of a type; one each.
    using Handler = std::function<Status(const PeerId& from, Frame frame)>;
    void handle(MessageType type, Handler handler) { handlers_[type] = std::move(handler); }
    /// False: there is no link. To ourselves it is delivered, too.
    bool send(const PeerId& to, Priority priority, MessageType type, std::uint64_t correlation,
              ByteView payload);
    /// An answer, or kUnavailable when the link ends first.
    using Answered = std::function<void(Result<Frame>)>;
    void request(const PeerId& to, Priority priority, MessageType type, ByteView payload,
                 Answered answered);
    /// Bytes of bulk frames that wait for the link.
    [[nodiscard]] std::size_t waiting_bulk_bytes(const PeerId& to) const;

    Result<std::string> invite(std::int64_t valid_ms);
    /// Tries the token's addresses in turn.
    void join(const std::string& token, std::function<void(const Status&)> done);
    /// Looks for peers there that we know already.
    void call(const Endpoint& endpoint);
    [[nodiscard]] const Trust& trust() const { return trust_; }
    [[nodiscard]] const PeerKey& key() const { return key_; }
    Status distrust(const PeerId& id);
    /// Tells the others that we go.
    void leave();
    [[nodiscard]] std::uint64_t refusals() const { return listener_->refusals(); }
    [[nodiscard]] const std::string& last_refusal() const { return listener_->last_refusal(); }

private:
    /// A link on its way or open.
    struct Line {
        std::unique_ptr<Link> link;
        bool greeted = false;  ///< The other side's Hello has come.
        std::uint64_t instance = 0;
    };
    struct Pending {
        PeerId peer;
        Answered answered;
    };
    struct Joining;

    Mesh(Loop& loop, Setup setup, PeerKey key, TlsContext tls, Trust trust,
         Invitations invitations);
    Status judge(const PublicKey& key, LinkPurpose purpose);
    void dial(const PeerId& peer);
    void redial();
    void dial_endpoint(const Endpoint& endpoint, std::optional<PeerId> expected,
                       std::vector<std::string> others);
    void adopt(std::unique_ptr<Link> link);
    void on_link_closed(std::uint64_t line, const Error& why);
    void drop(std::uint64_t line, const std::string& why);
    Status on_frame(std::uint64_t line, Frame frame);
    Status on_hello(std::uint64_t line, const Frame& frame);
    Status on_gossip(const PeerId& from, const Frame& frame);
    Status on_trust(const PeerId& from, const Frame& frame);
    void serve_joiner(std::unique_ptr<Link> link);
    void try_join(const std::shared_ptr<Joining>& joining);
    void greet(Line& line);
    void send_trust(Line& line);
    void step(const membership::Event& event);
    void perform(const membership::Effect& effect);
    void fail_pending(const PeerId& peer, const Error& why);
    Status load_acquaintances();
    void remember(const Member& member);
    void call_acquaintances();
    void note_refusal(const std::string& host, const Error& why);
    [[nodiscard]] const Line* line_to(const PeerId& peer) const;

    Loop& loop_;
    Setup setup_;
    PeerKey key_;
    TlsContext tls_;
    Trust trust_;
    Invitations invitations_;
    std::unique_ptr<Membership> membership_;
    std::unique_ptr<LinkListener> listener_;
    std::map<std::uint64_t, Line> lines_;
    std::map<PeerId, std::uint64_t> current_;  ///< The line that messages to a peer take.
    std::uint64_t next_line_ = 1;
    /// Under way; keyed by peer, or by address where that is all we know.
    std::map<std::string, std::unique_ptr<Link>> dialing_;
    std::map<PeerId, std::int64_t> dialed_us_;  ///< When each was last called.
    std::set<PeerId> redials_;                  ///< To be called when their time has come.
    std::map<std::uint64_t, std::unique_ptr<Link>> joiners_;
    std::map<std::uint64_t, Pending> pending_;
    std::uint64_t next_correlation_ = 1;
    std::map<MessageType, Handler> handlers_;
    /// Where peers of this mesh were reached, in peers.json: how a restarted daemon finds it again.
    std::map<PeerId, std::vector<std::string>> acquaintances_;
    Timer acquaintance_timer_;
    Timer redial_timer_;
    OnMember on_member_;
    std::function<void(const PeerId&, bool)> on_link_;
    std::function<void(const PeerId&)> on_drained_;
    Timer timer_;
    bool left_ = false;
    std::map<std::string, std::int64_t> said_refusals_;  ///< When they were said.
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace ppdsm
