#include "runtime/peer/mesh/replicas.h"

#include <spdlog/spdlog.h>

#include <set>
#include <tuple>

#include "dsm/wire/codec.h"
#include "messages_generated.h"
#include "runtime/peer/fault_point.h"
#include "runtime/peer/replication/chunk_server.h"
#include "runtime/peer/replication/hosted_replica.h"

namespace ppdsm {

namespace {

/// Another peer as a source of chunks.
class MeshSource final : public ChunkSource {
public:
    MeshSource(Mesh& mesh, PeerId peer) : mesh_(mesh), peer_(peer) {}

    [[nodiscard]] std::string name() const override { return mesh_.describe(peer_); }
    void request(ChunkRequest request, OnBatch answer) override {
        mesh_.request(peer_, Priority::kBulk, MessageType::kGetChunks,
                      encode_chunk_request(request),
                      [answer = std::move(answer)](Result<Frame> frame) {
                          if (!frame) return answer(fail(frame.error()));
                          answer(ChunkBatch{std::move(frame->payload)});
                      });
    }
    void request_manifest(ManifestRequest request, OnPiece answer) override {
        mesh_.request(peer_, Priority::kBulk, MessageType::kGetManifest,
                      encode_manifest_request(request),
                      [answer = std::move(answer)](Result<Frame> frame) {
                          if (!frame) return answer(fail(frame.error()));
                          answer(ManifestPiece{std::move(frame->payload)});
                      });
    }
    void end(const std::string& vc, std::uint64_t generation) override {
        (void)mesh_.send(peer_, Priority::kBulk, MessageType::kPullEnded, 0,
                         encode_pull_ended({vc, generation}));
    }

private:
    Mesh& mesh_;
    PeerId peer_;
};

Bytes encode_name(const std::string& vc, std::uint64_t generation) {
    wire::GenerationNameT name;
    name.vc = vc;
    name.generation = generation;
    return encode_message<wire::GenerationName>(name);
}

}  // namespace

struct Replicas::Impl {
    Impl(Loop& its_loop, Mesh& its_mesh, Warrants& its_warrants, const Home& its_home,
         std::shared_ptr<spdlog::logger> its_log)
        : loop(its_loop),
          mesh(its_mesh),
          warrants(its_warrants),
          home(its_home),
          log(std::move(its_log)) {}
    ~Impl() { *alive = false; }

    void with_replica(const std::string& vc, std::function<void(Result<HostedReplica*>)> use);
    ChunkServer& server(const std::string& vc);
    void listen();
    Status on_offer(const PeerId& from, const Frame& frame);
    Status on_get_offer(const PeerId& from, const Frame& frame);
    Status on_get_chunks(const PeerId& from, const Frame& frame);
    Status on_get_manifest(const PeerId& from, const Frame& frame);
    Status on_pull_ended(const PeerId& from, const Frame& frame);
    void pull(HostedReplica& replica, const GenerationOffer& offer,
              std::vector<std::shared_ptr<ChunkSource>> sources,
              std::function<void(const Status&)> done);

    Loop& loop;
    Mesh& mesh;
    Warrants& warrants;
    Home home;
    std::shared_ptr<spdlog::logger> log;
    std::map<std::string, std::unique_ptr<HostedReplica>> replicas;
    std::map<std::string, std::unique_ptr<ChunkServer>> servers;
    /// Generations that a peer pulls from us, to be ended when its link does.
    std::multiset<std::tuple<PeerId, std::string, std::uint64_t>> served;
    std::shared_ptr<bool> alive = std::make_shared<bool>(true);
};

Replicas::Replicas(Loop& loop, Mesh& mesh, Warrants& warrants, const Home& home,
                   std::shared_ptr<spdlog::logger> log)
    : impl_(std::make_unique<Impl>(loop, mesh, warrants, home, std::move(log))) {
    impl_->listen();
}
Replicas::~Replicas() = default;

void Replicas::Impl::listen() {
    const auto take = [this](MessageType type,
                             Status (Impl::*method)(const PeerId&, const Frame&)) {
        mesh.handle(type, [this, method](const PeerId& from, Frame frame) {
            return (this->*method)(from, frame);
        });
    };
    take(MessageType::kOffer, &Impl::on_offer);
    take(MessageType::kGetOffer, &Impl::on_get_offer);
    take(MessageType::kGetChunks, &Impl::on_get_chunks);
    take(MessageType::kGetManifest, &Impl::on_get_manifest);
    take(MessageType::kPullEnded, &Impl::on_pull_ended);
}

ChunkServer& Replicas::Impl::server(const std::string& vc) {
    auto& server = servers[vc];
    if (!server) server = std::make_unique<ChunkServer>(loop, home.hosted(vc));
    return *server;
}

void Replicas::Impl::with_replica(const std::string& vc,
                                  std::function<void(Result<HostedReplica*>)> use) {
    auto& replica = replicas[vc];
    if (!replica) replica = std::make_unique<HostedReplica>(loop, home.hosted(vc));
    if (replica->is_open()) return use(replica.get());
    replica->open([this, alive_here = alive, vc, use = std::move(use)](const Result<void>& opened) {
        if (!*alive_here) return;
        const auto found = replicas.find(vc);
        if (found == replicas.end()) return use(fail(Code::kUnavailable, vc + " was let go of"));
        if (!opened) {
            const Error why = opened.error();
            replicas.erase(found);
            return use(fail(why));
        }
        use(found->second.get());
    });
}

/// What lies behind the generation before is dropped with each new one.
void Replicas::Impl::pull(HostedReplica& replica, const GenerationOffer& offer,
                          std::vector<std::shared_ptr<ChunkSource>> sources,
                          std::function<void(const Status&)> done) {
    const std::uint64_t base = offer.base;
    const std::string vc = offer.vc;
    replica.pull(offer, std::move(sources),
                 [this, alive_here = alive, vc, base,
                  done = std::move(done)](const Result<PullReport>& report) {
                     if (!*alive_here) return;
                     if (!report) return done(fail(report.error()));
                     fault_point("replica-durable");
                     done({});
                     const auto found = replicas.find(vc);
                     if (found == replicas.end() || !found->second->is_open()) return;
                     std::vector<std::uint64_t> old;
                     for (const auto& [generation, held] : found->second->held()) {
                         if (generation < base) old.push_back(generation);
                     }
                     if (!old.empty()) found->second->drop(old, [](const Result<void>&) {});
                 });
}

Status Replicas::Impl::on_offer(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(const GenerationOffer offer, decode_offer(frame.payload));
    if (!is_vc_id(offer.vc)) return fail(Code::kCorrupt, "an offer of no virtual computer");
    const auto answer = [this, from, correlation = frame.correlation,
                         offer](const Status& durable) {
        OfferAnswer said{offer.vc, offer.generation, offer.manifest_name, PullReport{}};
        if (!durable) said.outcome = fail(durable.error());
        (void)mesh.send(from, Priority::kBulk, MessageType::kOfferAnswer, correlation,
                        encode_offer_answer(said));
    };
    if (const Status allowed = warrants.may_hold_for(offer.vc, from); !allowed) {
        answer(allowed);
        return {};
    }
    with_replica(offer.vc, [this, from, offer, answer](Result<HostedReplica*> replica) {
        if (!replica) return answer(fail(replica.error()));
        pull(**replica, offer, {std::make_shared<MeshSource>(mesh, from)}, answer);
    });
    return {};
}

Status Replicas::Impl::on_get_offer(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(const wire::GenerationNameT name,
                 decode_message<wire::GenerationName>(frame.payload));
    if (!is_vc_id(name.vc)) return fail(Code::kCorrupt, "a request for no virtual computer");
    if (!warrants.may_use(name.vc, from)) {
        (void)mesh.send(from, Priority::kBulk, MessageType::kOfferGiven, frame.correlation, {});
        return {};
    }
    server(name.vc).begin(
        name.generation, [this, alive_here = alive, from, name,
                          correlation = frame.correlation](const Result<GenerationOffer>& offer) {
            if (!*alive_here) return;
            if (offer && mesh.send(from, Priority::kBulk, MessageType::kOfferGiven, correlation,
                                   encode_offer(*offer))) {
                served.emplace(from, name.vc, name.generation);
                return;
            }
            if (offer) return server(name.vc).end(name.generation);
            (void)mesh.send(from, Priority::kBulk, MessageType::kOfferGiven, correlation, {});
        });
    return {};
}

Status Replicas::Impl::on_get_chunks(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(ChunkRequest request, decode_chunk_request(frame.payload));
    if (!is_vc_id(request.vc)) return fail(Code::kCorrupt, "a request for no virtual computer");
    const std::string vc = request.vc;
    if (const Status allowed = warrants.may_use(vc, from); !allowed) {
        (void)mesh.send(from, Priority::kBulk, MessageType::kChunks, frame.correlation,
                        refuse_request(allowed.error()).payload);
        return {};
    }
    server(vc).request(
        std::move(request), [this, alive_here = alive, from,
                             correlation = frame.correlation](const Result<ChunkBatch>& batch) {
            if (!*alive_here) return;
            const ChunkBatch said = batch ? *batch : refuse_request(batch.error());
            (void)mesh.send(from, Priority::kBulk, MessageType::kChunks, correlation, said.payload);
        });
    return {};
}

Status Replicas::Impl::on_get_manifest(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(ManifestRequest request, decode_manifest_request(frame.payload));
    if (!is_vc_id(request.vc)) return fail(Code::kCorrupt, "a request for no virtual computer");
    const std::string vc = request.vc;
    if (const Status allowed = warrants.may_use(vc, from); !allowed) {
        (void)mesh.send(from, Priority::kBulk, MessageType::kManifestPiece, frame.correlation,
                        refuse_manifest(allowed.error()).payload);
        return {};
    }
    server(vc).request_manifest(
        std::move(request), [this, alive_here = alive, from,
                             correlation = frame.correlation](const Result<ManifestPiece>& piece) {
            if (!*alive_here) return;
            const ManifestPiece said = piece ? *piece : refuse_manifest(piece.error());
            (void)mesh.send(from, Priority::kBulk, MessageType::kManifestPiece, correlation,
                            said.payload);
        });
    return {};
}

Status Replicas::Impl::on_pull_ended(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(const PullEnded ended, decode_pull_ended(frame.payload));
    const auto found = served.find({from, ended.vc, ended.generation});
    if (found == served.end()) return {};
    served.erase(found);
    server(ended.vc).end(ended.generation);
    return {};
}

void Replicas::on_link_closed(const PeerId& peer) {
    for (auto each = impl_->served.begin(); each != impl_->served.end();) {
        if (std::get<0>(*each) != peer) {
            ++each;
            continue;
        }
        impl_->server(std::get<1>(*each)).end(std::get<2>(*each));
        each = impl_->served.erase(each);
    }
}

void Replicas::replicate(const std::string& vc, const GenerationRecord& record,
                         const std::vector<PeerId>& peers, std::function<void(Outcome)> done) {
    struct Round {
        Outcome outcome;
        std::size_t missing = 0;
        std::function<void(Outcome)> done;
    };
    auto round = std::make_shared<Round>();
    round->missing = peers.size();
    round->done = std::move(done);
    if (peers.empty()) {
        impl_->loop.post([round] { round->done(round->outcome); });
        return;
    }
    const auto settle = [this, round](const PeerId& peer, const Status& status) {
        if (status) {
            round->outcome.durable.push_back(peer);
        } else {
            round->outcome.failures.add(peer, impl_->mesh.describe(peer), status.error());
        }
        if (--round->missing == 0) round->done(round->outcome);
    };
    for (const PeerId& peer : peers) {
        impl_->warrants.show(vc, peer);
        impl_->warrants.admit(vc, peer);
        ChunkServer& server = impl_->server(vc);
        server.begin(record.generation, [this, alive = impl_->alive, vc, record, peer,
                                         settle](const Result<GenerationOffer>& offer) {
            if (!*alive) return;
            if (!offer) return settle(peer, fail(offer.error()));
            impl_->mesh.request(
                peer, Priority::kBulk, MessageType::kOffer, encode_offer(*offer),
                [this, alive, vc, record, peer, settle](const Result<Frame>& frame) {
                    if (!*alive) return;
                    impl_->server(vc).end(record.generation);
                    if (!frame) return settle(peer, fail(frame.error()));
                    const Result<OfferAnswer> answer = decode_offer_answer(frame->payload);
                    if (!answer) return settle(peer, fail(answer.error()));
                    if (!answer->outcome) return settle(peer, fail(answer->outcome.error()));
                    settle(peer, {});
                });
        });
    }
}

void Replicas::bring(const std::string& vc, const GenerationRecord& record,
                     const std::vector<PeerId>& sources, std::function<void(const Status&)> done) {
    impl_->with_replica(vc, [this, vc, record, sources,
                             done = std::move(done)](Result<HostedReplica*> replica) {
        if (!replica) return done(fail(replica.error()));
        if ((*replica)->holds(record.generation, record.manifest)) return done({});
        struct Search {
            std::optional<GenerationOffer> offer;
            std::vector<std::shared_ptr<ChunkSource>> found;
            std::size_t missing = 0;
        };
        auto search = std::make_shared<Search>();
        const auto decide = [this, search, vc, done] {
            if (!search->offer) {
                return done(fail(Code::kUnavailable,
                                 "no peer that can be reached has the last generation"));
            }
            impl_->with_replica(vc, [this, search, done](Result<HostedReplica*> again) {
                if (!again) return done(fail(again.error()));
                impl_->pull(**again, *search->offer, search->found, done);
            });
        };
        for (const PeerId& peer : sources) search->missing += peer != impl_->mesh.self().id ? 1 : 0;
        if (search->missing == 0) return decide();
        for (const PeerId& peer : sources) {
            if (peer == impl_->mesh.self().id) continue;
            impl_->warrants.show(vc, peer);
            impl_->mesh.request(
                peer, Priority::kBulk, MessageType::kGetOffer, encode_name(vc, record.generation),
                [this, alive = impl_->alive, peer, search, decide,
                 wanted = record.manifest](const Result<Frame>& frame) {
                    if (!*alive) return;
                    if (frame && !frame->payload.empty()) {
                        const Result<GenerationOffer> offer = decode_offer(frame->payload);
                        if (offer && offer->manifest_name == wanted) {
                            search->offer = *offer;
                            search->found.push_back(
                                std::make_shared<MeshSource>(impl_->mesh, peer));
                        }
                    }
                    if (--search->missing == 0) decide();
                });
        }
    });
}

void Replicas::release(const std::string& vc, std::function<void(const Status&)> done) {
    const auto found = impl_->replicas.find(vc);
    if (found == impl_->replicas.end()) {
        impl_->loop.post([done = std::move(done)] { done({}); });
        return;
    }
    found->second->release(
        [this, alive = impl_->alive, vc, done = std::move(done)](const Result<void>& released) {
            if (!*alive) return;
            impl_->loop.post([this, alive, vc] {
                if (*alive) impl_->replicas.erase(vc);
            });
            done(released);
        });
}

void Replicas::forget(const std::string& vc) {
    if (!is_vc_id(vc)) return;
    impl_->servers.erase(vc);
    const auto remove = [this, vc] {
        impl_->loop.offload(
            [directory = impl_->home.hosted(vc).directory] { (void)remove_tree(directory); },
            [] {});
    };
    release(vc, [remove](const Status&) { remove(); });
}

}  // namespace ppdsm
