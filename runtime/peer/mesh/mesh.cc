#include "runtime/peer/mesh/mesh.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "dsm/base/wall_clock.h"
#include "runtime/peer/mesh/gossip_codec.h"

namespace ppdsm {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

constexpr std::uint64_t kCallMs = 3'000;
/// Between two calls of one peer.
constexpr std::int64_t kRedialUs = 200'000;

bool is_answer(MessageType type) {
    switch (type) {
        case MessageType::kDirectory:
        case MessageType::kContent:
        case MessageType::kPiece:
        case MessageType::kFilesHeld:
        case MessageType::kCatalog:
        case MessageType::kOfferAnswer:
        case MessageType::kChunks:
        case MessageType::kManifestPiece:
        case MessageType::kOfferGiven:
        case MessageType::kAnswer: return true;
        default: return false;
    }
}

/// Each start of the daemon has a number of its own, greater than those before.
Result<std::uint64_t> next_instance(const fs::path& path) {
    std::uint64_t last = 0;
    if (const Result<std::string> text = read_text(path, 64); text) {
        last = std::strtoull(text->c_str(), nullptr, 10);
    } else if (text.error().code() != Code::kNotFound) {
        return fail(text.error());
    }
    PPDSM_TRY(replace_file(path, as_bytes(std::to_string(last + 1) + "\n"), 0600));
    return last + 1;
}

/// This machine's addresses that others could reach; loopback when there is no other.
std::vector<std::string> local_hosts() {
    std::vector<std::string> hosts;
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) != 0) return {"127.0.0.1"};
    for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
        if (each->ifa_addr == nullptr || (each->ifa_flags & IFF_LOOPBACK) != 0 ||
            (each->ifa_flags & IFF_UP) == 0 || each->ifa_addr->sa_family != AF_INET) {
            continue;
        }
        std::array<char, INET_ADDRSTRLEN> text{};
        const auto* address = reinterpret_cast<const sockaddr_in*>(each->ifa_addr);
        ::inet_ntop(AF_INET, &address->sin_addr, text.data(), text.size());
        hosts.emplace_back(text.data());
    }
    ::freeifaddrs(list);
    if (hosts.empty()) hosts.emplace_back("127.0.0.1");
    return hosts;
}

bool is_wildcard(const std::string& host) { return host == "0.0.0.0" || host == "::"; }

}  // namespace

Result<std::unique_ptr<Mesh>> Mesh::start(Loop& loop, Setup setup) {
    PPDSM_ASSIGN(PeerKey key, PeerKey::load_or_create(setup.home / "identity.pem"));
    PPDSM_ASSIGN(TlsContext tls, TlsContext::create(key));
    PPDSM_ASSIGN(Trust trust, Trust::open(setup.home / "trust.json"));
    PPDSM_TRY(trust.add(key.public_key(), setup.name, key.id()));
    PPDSM_ASSIGN(Invitations invitations, Invitations::open(setup.home / "invites.json"));
    PPDSM_ASSIGN(const std::uint64_t instance, next_instance(setup.home / "instance"));
    std::unique_ptr<Mesh> mesh(new Mesh(loop, std::move(setup), std::move(key), std::move(tls),
                                        std::move(trust), std::move(invitations)));
    PPDSM_ASSIGN(mesh->listener_,
                 LinkListener::listen(
                     loop, mesh->tls_, mesh->setup_.listen,
                     [m = mesh.get()](const PublicKey& shown, LinkPurpose purpose) {
                         return m->judge(shown, purpose);
                     },
                     [m = mesh.get()](std::unique_ptr<Link> link) {
                         if (link->purpose() == LinkPurpose::kJoin) {
                             return m->serve_joiner(std::move(link));
                         }
                         m->adopt(std::move(link));
                     }));
    mesh->listener_->watch_refusals([m = mesh.get()](const std::string& host, const Error& why) {
        m->note_refusal(host, why);
    });
    Member self;
    self.id = mesh->key_.id();
    self.instance = instance;
    self.name = mesh->setup_.name;
    self.addresses = mesh->addresses();
    std::uint64_t seed = 0;
    fill_random({reinterpret_cast<std::uint8_t*>(&seed), sizeof seed});
    mesh->membership_ = std::make_unique<Membership>(self, MembershipSettings{}, seed);
    mesh->step(membership::Tick{});
    PPDSM_TRY(mesh->load_acquaintances());
    mesh->call_acquaintances();
    return mesh;
}

Mesh::Mesh(Loop& loop, Setup setup, PeerKey key, TlsContext tls, Trust trust,
           Invitations invitations)
    : loop_(loop),
      setup_(std::move(setup)),
      key_(std::move(key)),
      tls_(std::move(tls)),
      trust_(std::move(trust)),
      invitations_(std::move(invitations)),
      acquaintance_timer_(loop, [this] { call_acquaintances(); }),
      redial_timer_(loop, [this] { redial(); }),
      timer_(loop, [this] { step(membership::Tick{}); }) {}

Mesh::~Mesh() { *alive_ = false; }

std::vector<std::string> Mesh::addresses() const {
    std::vector<std::string> all;
    all.reserve(setup_.advertised.size());
    for (const Endpoint& endpoint : setup_.advertised) all.push_back(endpoint.to_string());
    if (!all.empty()) return all;
    const std::string port = std::to_string(listener_->port());
    if (!is_wildcard(setup_.listen.host)) return {Endpoint{setup_.listen.host, port}.to_string()};
    for (const std::string& host : local_hosts()) all.push_back(Endpoint{host, port}.to_string());
    return all;
}

Status Mesh::judge(const PublicKey& key, LinkPurpose purpose) {
    if (purpose == LinkPurpose::kJoin) {
        if (invitations_.has_open()) return {};
        return fail(Code::kInvalid, "nobody is invited here");
    }
    if (trust_.allows(key)) return {};
    return fail(Code::kInvalid, key.id().to_string() +
                                    " is not on this mesh's allow list; `ppdsm peer invite` makes "
                                    "an invitation for it");
}

/// The same again is said once a minute, so that nobody fills our log.
void Mesh::note_refusal(const std::string& host, const Error& why) {
    constexpr std::int64_t kQuietUs = std::int64_t{60} * 1'000'000;
    constexpr std::size_t kMostRemembered = 256;
    const std::string said = fmt::format("refused a connection from {}: {}", host, why.message());
    const std::int64_t now_us = monotonic_now_us();
    std::erase_if(said_refusals_,
                  [&](const auto& each) { return now_us > each.second + kQuietUs; });
    if (said_refusals_.size() >= kMostRemembered) return;
    if (said_refusals_.emplace(said, now_us).second) setup_.log->warn("{}", said);
}

// Membership.

void Mesh::step(const membership::Event& event) {
    std::vector<membership::Effect> effects;
    membership_->step(monotonic_now_us(), event, effects);
    for (const membership::Effect& effect : effects) perform(effect);
    const std::int64_t wait_us = membership_->next_tick_us() - monotonic_now_us();
    timer_.start(static_cast<std::uint64_t>(std::max<std::int64_t>(wait_us, 0) / 1000 + 1));
}

void Mesh::perform(const membership::Effect& effect) {
    if (const auto* out = std::get_if<membership::Send>(&effect)) {
        (void)send(out->to, Priority::kControl, MessageType::kGossip, 0,
                   encode_gossip(out->message));
    } else if (const auto* wanted = std::get_if<membership::Connect>(&effect)) {
        dial(wanted->peer);
    } else if (const auto* changed = std::get_if<membership::Changed>(&effect)) {
        if (changed->why != "advert") {
            setup_.log->info("peer={} is {} ({})", describe(changed->member.id),
                             member_state_name(changed->member.state), changed->why);
        }
        if (changed->member.state == MemberState::kAlive) remember(changed->member);
        if (on_member_) on_member_(changed->member, changed->before, changed->why);
    }
}

Status Mesh::load_acquaintances() {
    const Result<std::string> text = read_text(setup_.home / "peers.json");
    if (!text && text.error().code() == Code::kNotFound) return {};
    if (!text) return fail(text.error());
    const Json peers = Json::parse(*text, nullptr, false);
    for (const auto& [id, addresses] : peers.items()) {
        const Result<PeerId> peer = PeerId::parse(id);
        // A damaged note costs no more than a call or an invitation.
        if (!peer || !addresses.is_array()) continue;
        for (const Json& address : addresses) {
            if (address.is_string()) acquaintances_[*peer].push_back(address);
        }
    }
    return {};
}

void Mesh::remember(const Member& member) {
    if (member.addresses.empty() || acquaintances_[member.id] == member.addresses) return;
    acquaintances_[member.id] = member.addresses;
    Json peers = Json::object();
    for (const auto& [id, addresses] : acquaintances_) {
        const TrustEntry* entry = trust_.find(id);
        if (entry != nullptr && !entry->removed) peers[id.to_string()] = addresses;
    }
    const Status kept =
        replace_file(setup_.home / "peers.json", as_bytes(peers.dump(1) + "\n"), 0600);
    if (!kept) setup_.log->warn("{}", kept.error().message());
}

/// Those that are no members yet; members are called by the membership itself.
void Mesh::call_acquaintances() {
    acquaintance_timer_.start(kCallMs);
    if (left_) return;
    for (const auto& [id, addresses] : acquaintances_) {
        if (membership_->find(id) != nullptr || dialing_.contains(id.to_string())) continue;
        const Result<Endpoint> first = Endpoint::parse(addresses.front());
        if (first) dial_endpoint(*first, id, {addresses.begin() + 1, addresses.end()});
    }
}

void Mesh::advertise(Bytes advert) { step(membership::AdvertChanged{std::move(advert)}); }

void Mesh::leave() {
    left_ = true;
    step(membership::Leave{});
}

const Member* Mesh::find(const PeerId& id) const {
    return id == key_.id() ? &self() : membership_->find(id);
}

bool Mesh::is_alive(const PeerId& peer) const {
    if (peer == self().id) return true;
    const Member* member = membership_->find(peer);
    return member != nullptr &&
           (member->state == MemberState::kAlive || member->state == MemberState::kSuspect);
}

std::string Mesh::describe(const PeerId& id) const {
    if (id == key_.id()) return setup_.name + " (" + id.brief() + ")";
    const Member* member = membership_ ? membership_->find(id) : nullptr;
    if (member != nullptr && !member->name.empty()) return member->name + " (" + id.brief() + ")";
    const TrustEntry* entry = trust_.find(id);
    return entry == nullptr ? id.to_string() : entry->name + " (" + id.brief() + ")";
}

Result<PeerId> Mesh::resolve(const std::string& text) const {
    std::vector<const Member*> candidates = members();
    candidates.push_back(&self());
    std::vector<PeerId> matches;
    for (const Member* member : candidates) {
        const std::string id = member->id.to_string();
        if (id == text) return member->id;
        if (member->name == text || (text.size() >= 4 && id.starts_with(text))) {
            matches.push_back(member->id);
        }
    }
    if (matches.size() == 1) return matches.front();
    if (matches.empty()) {
        return fail(Code::kNotFound,
                    "no peer is called " + text + "; `ppdsm peer list` shows them");
    }
    std::string ids;
    for (const PeerId& id : matches) ids += " " + id.to_string();
    return fail(Code::kInvalid, text + " could be any of" + ids);
}

// Links.

void Mesh::call(const Endpoint& endpoint) { dial_endpoint(endpoint, std::nullopt, {}); }

void Mesh::dial(const PeerId& peer) {
    const Member* member = membership_->find(peer);
    if (member == nullptr || left_ || is_linked(peer)) return;
    if (dialing_.contains(peer.to_string()) || member->addresses.empty()) return;
    // Who closes each link that we make is not called without end.
    const std::int64_t now_us = monotonic_now_us();
    std::int64_t& dialed_us = dialed_us_[peer];
    if (dialed_us != 0 && now_us < dialed_us + kRedialUs) {
        redials_.insert(peer);
        if (!redial_timer_.is_active()) redial_timer_.start(kRedialUs / 1000);
        return;
    }
    dialed_us = now_us;
    std::vector<std::string> others(member->addresses.begin() + 1, member->addresses.end());
    const Result<Endpoint> first = Endpoint::parse(member->addresses.front());
    if (first) dial_endpoint(*first, peer, std::move(others));
}

void Mesh::redial() {
    for (const PeerId& peer : std::exchange(redials_, {})) dial(peer);
}

/// `others`: where to try next.
void Mesh::dial_endpoint(const Endpoint& endpoint, std::optional<PeerId> expected,
                         std::vector<std::string> others) {
    const std::string key = expected ? expected->to_string() : endpoint.to_string();
    auto link = Link::connect(
        loop_, tls_, endpoint, LinkPurpose::kMember,
        [this](const PublicKey& shown, LinkPurpose purpose) { return judge(shown, purpose); });
    link->listen(
        {.on_open =
             [this, key] {
                 auto node = dialing_.extract(key);
                 // Not from within the link's own call: it stays what it is until we return.
                 if (!node.empty()) adopt(std::move(node.mapped()));
             },
         .on_closed =
             [this, key, endpoint, expected, others](const Error& why, bool refused) mutable {
                 const auto gone = dialing_.extract(key);
                 setup_.log->log(expected ? spdlog::level::debug : spdlog::level::warn,
                                 "cannot reach {}: {}", endpoint.to_string(), why.message());
                 if (!others.empty()) {
                     const Result<Endpoint> next = Endpoint::parse(others.front());
                     others.erase(others.begin());
                     if (next) return dial_endpoint(*next, expected, others);
                 }
                 if (refused && expected) step(membership::ConnectRefused{*expected});
             }});
    dialing_[key] = std::move(link);
}

void Mesh::adopt(std::unique_ptr<Link> link) {
    const std::uint64_t id = next_line_++;
    Line& line = lines_[id];
    line.link = std::move(link);
    line.link->listen(
        {.on_frame = [this, id](Frame frame) { return on_frame(id, std::move(frame)); },
         .on_drained =
             [this, id] {
                 if (on_drained_) on_drained_(lines_.at(id).link->peer());
             },
         .on_closed = [this, id](const Error& why, bool) { on_link_closed(id, why); }});
    greet(line);
}

void Mesh::greet(Line& line) {
    line.link->send(Priority::kControl, MessageType::kHello, 0, encode_hello(self()));
    send_trust(line);
}

void Mesh::send_trust(Line& line) {
    line.link->send(Priority::kControl, MessageType::kTrust, 0, encode_trust(trust_.entries()));
}

Status Mesh::on_hello(std::uint64_t line_id, const Frame& frame) {
    Line& line = lines_.at(line_id);
    const PeerId peer = line.link->peer();
    // It would replace the link by itself.
    if (line.greeted) return fail(Code::kCorrupt, describe(peer) + " says Hello twice");
    PPDSM_ASSIGN(Member member, decode_hello(peer, frame.payload));
    if (peer == key_.id()) {
        return fail(Code::kInvalid, "another daemon, at " + line.link->remote_host() + " (" +
                                        member.name + "), has our key " + peer.to_string() +
                                        ", as if a home had been copied: give one of them a new "
                                        "home");
    }
    line.greeted = true;
    line.instance = member.instance;
    const auto known = current_.find(peer);
    if (known != current_.end()) {
        const Line& other = lines_.at(known->second);
        // One that has risen since its Hello is known by what it says of itself now.
        const Member* risen = membership_->find(peer);
        const std::uint64_t newest =
            std::max(other.instance, risen == nullptr ? 0 : risen->instance);
        if (newest > member.instance) {
            return fail(Code::kInvalid, "two daemons have the key " + peer.to_string() + ": at " +
                                            other.link->remote_host() + " and at " +
                                            line.link->remote_host() +
                                            "; give one of them a new home");
        }
        // Both called at the same time: the call of the one with the smaller id stays.
        const bool we_call = peer > key_.id();
        const bool keep_other = newest == member.instance &&
                                other.link->was_accepted() != we_call &&
                                line.link->was_accepted() == we_call;
        if (keep_other) {
            drop(line_id, "a second connection");
            return {};
        }
        // There is a link all the while: were it told closed, it would be called again, and the
        // answer would replace this one in turn.
        const std::uint64_t replaced = std::exchange(known->second, line_id);
        const Error why(Code::kUnavailable, "replaced by a new connection");
        drop(replaced, why.message());
        fail_pending(peer, why);
        if (on_link_) on_link_(peer, false);
    }
    current_[peer] = line_id;
    // Where it is reachable may be known better from here.
    if (member.addresses.empty()) member.addresses.push_back(line.link->remote_host());
    step(membership::LinkOpened{std::move(member)});
    if (on_link_) on_link_(peer, true);
    return {};
}

Status Mesh::on_frame(std::uint64_t line_id, Frame frame) {
    const auto found = lines_.find(line_id);
    if (found == lines_.end()) return {};
    if (frame.type == MessageType::kHello) {
        const Status greeted = on_hello(line_id, frame);
        if (!greeted) setup_.log->warn("{}", greeted.error().message());
        return greeted;
    }
    const PeerId peer = found->second.link->peer();
    if (frame.type == MessageType::kTrust) return on_trust(peer, frame);
    if (!found->second.greeted) return fail(Code::kCorrupt, "a message before Hello");
    if (frame.type == MessageType::kGossip) return on_gossip(peer, frame);
    if (is_answer(frame.type)) {
        const auto pending = pending_.find(frame.correlation);
        if (pending == pending_.end() || pending->second.peer != peer) return {};
        const Answered answered = std::move(pending->second.answered);
        pending_.erase(pending);
        answered(std::move(frame));
        return {};
    }
    const auto handler = handlers_.find(frame.type);
    if (handler == handlers_.end()) return {};
    return handler->second(peer, std::move(frame));
}

Status Mesh::on_gossip(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(GossipMessage message, decode_gossip(frame.payload));
    // Whom we do not trust is no member, whoever says so.
    std::erase_if(message.members, [&](const Member& member) {
        const TrustEntry* entry = trust_.find(member.id);
        return entry == nullptr || entry->removed;
    });
    step(membership::Received{from, std::move(message)});
    return {};
}

Status Mesh::on_trust(const PeerId& /*from*/, const Frame& frame) {
    PPDSM_ASSIGN(const std::vector<TrustEntry> entries, decode_trust(frame.payload));
    PPDSM_ASSIGN(const bool changed, trust_.merge(entries));
    if (!changed) return {};
    std::vector<std::uint64_t> distrusted;
    for (auto& [id, line] : lines_) {
        if (!trust_.allows(line.link->peer_key())) {
            distrusted.push_back(id);
        } else {
            send_trust(line);
        }
    }
    for (const std::uint64_t id : distrusted) drop(id, "removed from the allow list");
    return {};
}

Status Mesh::distrust(const PeerId& id) {
    if (id == key_.id()) {
        return fail(Code::kInvalid, "this is the peer itself; remove it at another");
    }
    PPDSM_TRY(trust_.remove(id));
    // Itself included, so that it knows.
    for (auto& [line_id, line] : lines_) send_trust(line);
    std::vector<std::uint64_t> gone;
    for (auto& [line_id, line] : lines_) {
        if (line.link->peer() == id) gone.push_back(line_id);
    }
    for (const std::uint64_t line_id : gone) drop(line_id, "removed from the allow list");
    return {};
}

void Mesh::drop(std::uint64_t line_id, const std::string& why) {
    const auto found = lines_.find(line_id);
    if (found == lines_.end()) return;
    found->second.link->close();
    on_link_closed(line_id, Error(Code::kUnavailable, why));
}

void Mesh::on_link_closed(std::uint64_t line_id, const Error& why) {
    auto node = lines_.extract(line_id);
    if (node.empty()) return;
    const PeerId peer = node.mapped().link->peer();
    const auto current = current_.find(peer);
    if (current == current_.end() || current->second != line_id) return;
    current_.erase(current);
    setup_.log->debug("link to {} closed: {}", describe(peer), why.message());
    fail_pending(peer, why);
    if (on_link_) on_link_(peer, false);
    step(membership::LinkClosed{peer});
}

void Mesh::fail_pending(const PeerId& peer, const Error& why) {
    std::vector<Answered> failed;
    for (auto each = pending_.begin(); each != pending_.end();) {
        if (each->second.peer != peer) {
            ++each;
            continue;
        }
        failed.push_back(std::move(each->second.answered));
        each = pending_.erase(each);
    }
    for (const Answered& answered : failed) {
        answered(fail(Code::kUnavailable,
                      "the link to " + describe(peer) + " closed: " + why.message()));
    }
}

const Mesh::Line* Mesh::line_to(const PeerId& peer) const {
    const auto current = current_.find(peer);
    return current == current_.end() ? nullptr : &lines_.at(current->second);
}

bool Mesh::is_linked(const PeerId& peer) const { return line_to(peer) != nullptr; }

std::size_t Mesh::waiting_bulk_bytes(const PeerId& to) const {
    const Line* line = line_to(to);
    return line == nullptr ? 0 : line->link->waiting_bytes(Priority::kBulk);
}

bool Mesh::send(const PeerId& to, Priority priority, MessageType type, std::uint64_t correlation,
                ByteView payload) {
    if (to == key_.id()) {
        Frame frame{type, correlation, Bytes(payload.begin(), payload.end())};
        loop_.post([this, alive = alive_, frame = std::move(frame)]() mutable {
            if (!*alive) return;
            if (is_answer(frame.type)) {
                auto pending = pending_.extract(frame.correlation);
                if (!pending.empty()) pending.mapped().answered(std::move(frame));
                return;
            }
            const auto handler = handlers_.find(frame.type);
            if (handler == handlers_.end()) return;
            const Status handled = handler->second(key_.id(), std::move(frame));
            if (!handled)
                setup_.log->error("a message to ourselves: {}", handled.error().message());
        });
        return true;
    }
    const Line* line = line_to(to);
    if (line == nullptr) return false;
    line->link->send(priority, type, correlation, payload);
    return true;
}

void Mesh::request(const PeerId& to, Priority priority, MessageType type, ByteView payload,
                   Answered answered) {
    const std::uint64_t correlation = next_correlation_++;
    pending_[correlation] = {to, std::move(answered)};
    if (send(to, priority, type, correlation, payload)) return;
    auto node = pending_.extract(correlation);
    loop_.post([this, alive = alive_, to, failed = std::move(node.mapped().answered)] {
        if (!*alive) return;
        failed(fail(Code::kUnavailable, "there is no link to " + describe(to)));
    });
}

}  // namespace ppdsm
