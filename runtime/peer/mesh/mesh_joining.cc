// How a peer becomes a member: the inviter's side and the joiner's.
#include <spdlog/spdlog.h>

#include "runtime/peer/mesh/mesh.h"

namespace ppdsm {

namespace {

constexpr std::size_t kMaxJoiners = 16;

}  // namespace

Result<std::string> Mesh::invite(std::int64_t valid_ms) {
    PPDSM_ASSIGN(const Invitation invitation, invitations_.issue(key_.id(), addresses(), valid_ms));
    return invitation.to_token();
}

void Mesh::serve_joiner(std::unique_ptr<Link> link) {
    const std::uint64_t id = next_line_++;
    auto request = std::make_shared<Bytes>();
    link->listen({.on_closed = [this, id](const Error&, bool) { joiners_.erase(id); },
                  .on_join_bytes = [this, id, request](ByteView bytes) -> Status {
                      request->insert(request->end(), bytes.begin(), bytes.end());
                      if (request->size() < kJoinRequestBytes) return {};
                      Link& joiner = *joiners_.at(id);
                      const Result<Invitations::Request> judged =
                          invitations_.judge(*request, joiner.peer_key(), joiner.channel_binding());
                      if (!judged) return fail(judged.error());
                      const std::string who = judged->name + " (" + joiner.peer().brief() + ")";
                      if (judged->verdict == JoinVerdict::kAdmitted) {
                          PPDSM_TRY(trust_.add(joiner.peer_key(), judged->name, key_.id()));
                          setup_.log->info("admitted {}", who);
                          for (auto& [line_id, line] : lines_) send_trust(line);
                      } else {
                          setup_.log->warn("refused {}: {}", who,
                                           explain_verdict(judged->verdict).error().message());
                      }
                      joiner.send_join_bytes(encode_join_answer(judged->verdict));
                      request->clear();
                      joiner.close();
                      return {};
                  }});
    joiners_[id] = std::move(link);
}

struct Mesh::Joining {
    Invitation invitation;
    std::size_t next_address = 0;
    std::string failures;
    std::unique_ptr<Link> link;
    Bytes answer;
    std::function<void(const Status&)> done;
};

void Mesh::join(const std::string& token, std::function<void(const Status&)> done) {
    Result<Invitation> invitation = Invitation::parse(token);
    if (!invitation) return done(fail(invitation.error()));
    if (invitation->inviter == key_.id()) {
        return done(fail(Code::kInvalid, "this invitation is our own; use it at the other peer"));
    }
    auto joining = std::make_shared<Joining>();
    joining->invitation = *std::move(invitation);
    joining->done = std::move(done);
    try_join(joining);
}

void Mesh::try_join(const std::shared_ptr<Joining>& joining) {
    const Invitation& invitation = joining->invitation;
    if (joining->next_address >= invitation.addresses.size()) {
        return joining->done(
            fail(Code::kUnavailable, "the inviter cannot be reached:" + joining->failures));
    }
    const Result<Endpoint> endpoint =
        Endpoint::parse(invitation.addresses[joining->next_address++]);
    if (!endpoint) return try_join(joining);
    joining->answer.clear();
    joining->link = Link::connect(
        loop_, tls_, *endpoint, LinkPurpose::kJoin,
        [expected = invitation.inviter](const PublicKey& key, LinkPurpose) -> Status {
            if (key.id() == expected) return {};
            return fail(Code::kInvalid, "the daemon there is " + key.id().to_string() +
                                            ", not the inviter " + expected.to_string());
        });
    Link& link = *joining->link;
    link.listen({.on_open =
                     [this, joining] {
                         joining->link->send_join_bytes(
                             encode_join_request(joining->invitation, key_.public_key(),
                                                 joining->link->channel_binding(), setup_.name));
                     },
                 .on_closed =
                     [this, joining](const Error& why, bool) {
                         joining->failures += "\n  " + why.message();
                         loop_.post([this, alive = alive_, joining] {
                             if (*alive) try_join(joining);
                         });
                     },
                 .on_join_bytes = [this, joining, at = *endpoint](ByteView bytes) -> Status {
                     joining->answer.insert(joining->answer.end(), bytes.begin(), bytes.end());
                     if (joining->answer.size() < kJoinAnswerBytes) return {};
                     PPDSM_ASSIGN(const JoinVerdict verdict, decode_join_answer(joining->answer));
                     const PublicKey inviter = joining->link->peer_key();
                     Status verdict_status = explain_verdict(verdict);
                     if (verdict_status) verdict_status = trust_.add(inviter, "", key_.id());
                     if (verdict_status) call(at);
                     loop_.post([joining, verdict_status] {
                         joining->link.reset();
                         joining->done(verdict_status);
                     });
                     return {};
                 }});
}

}  // namespace ppdsm
