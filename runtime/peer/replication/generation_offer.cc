#include "runtime/peer/replication/generation_offer.h"

#include "dsm/base/check.h"
#include "runtime/peer/replication/wire_tables.h"

namespace ppdsm {

using wire_tables::id_of;
using wire_tables::name_of;

Bytes encode_offer(const GenerationOffer& offer) {
    PPDSM_CHECK(offer.manifest.size() <= kMaxOfferedManifestBytes);
    flatbuffers::FlatBufferBuilder builder(offer.manifest.size() + 256);
    const auto vc = builder.CreateString(offer.vc);
    const auto manifest = builder.CreateVector(offer.manifest);
    const wire::ChunkName name = name_of(offer.manifest_name);
    return wire_tables::finish(
        builder, wire::CreateGenerationOffer(builder, vc, offer.epoch, offer.generation, offer.base,
                                             &name, offer.manifest_bytes, manifest));
}

Result<GenerationOffer> decode_offer(ByteView payload) {
    PPDSM_ASSIGN(const wire::GenerationOffer* const table,
                 wire_tables::verified<wire::GenerationOffer>(payload, "GenerationOffer"));
    GenerationOffer offer;
    offer.vc = table->vc()->str();
    offer.epoch = table->epoch();
    offer.generation = table->generation();
    offer.base = table->base();
    offer.manifest_name = id_of(*table->manifest_name());
    offer.manifest_bytes = table->manifest_bytes();
    if (table->manifest() != nullptr) {
        offer.manifest.assign(table->manifest()->begin(), table->manifest()->end());
    }
    if (!offer.manifest.empty() && offer.manifest.size() != offer.manifest_bytes) {
        return fail(Code::kInvalid, "GenerationOffer: a part of a manifest");
    }
    return offer;
}

Bytes encode_offer_answer(const OfferAnswer& answer) {
    flatbuffers::FlatBufferBuilder builder(256);
    const auto vc = builder.CreateString(answer.vc);
    const wire::ChunkName name = name_of(answer.manifest_name);
    flatbuffers::Offset<wire::Refusal> refusal;
    if (!answer.outcome) refusal = wire_tables::refusal_of(builder, answer.outcome.error());
    const PullReport report = answer.outcome ? *answer.outcome : PullReport{};
    return wire_tables::finish(
        builder, wire::CreateGenerationHeld(builder, vc, answer.generation, &name, refusal,
                                            report.chunks, report.received_bytes));
}

Result<OfferAnswer> decode_offer_answer(ByteView payload) {
    PPDSM_ASSIGN(const wire::GenerationHeld* const table,
                 wire_tables::verified<wire::GenerationHeld>(payload, "GenerationHeld"));
    PullReport report;
    report.chunks = table->chunks();
    report.received_bytes = table->wire_bytes();
    OfferAnswer answer{table->vc()->str(), table->generation(), id_of(*table->manifest_name()),
                       report};
    if (const Status refused = wire_tables::status_of(table->refusal()); !refused) {
        answer.outcome = fail(refused.error());
    }
    return answer;
}

Bytes encode_pull_ended(const PullEnded& ended) {
    flatbuffers::FlatBufferBuilder builder(256);
    const auto vc = builder.CreateString(ended.vc);
    return wire_tables::finish(builder, wire::CreatePullEnded(builder, vc, ended.generation));
}

Result<PullEnded> decode_pull_ended(ByteView payload) {
    PPDSM_ASSIGN(const wire::PullEnded* const table,
                 wire_tables::verified<wire::PullEnded>(payload, "PullEnded"));
    return PullEnded{table->vc()->str(), table->generation()};
}

}  // namespace ppdsm
