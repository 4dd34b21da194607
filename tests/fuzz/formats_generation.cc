// What a generation is on its way from peer to peer, and an order to run it.
#include "criu-glue/manifest/manifest.h"
#include "runtime/peer/commit_log.h"
#include "runtime/peer/hosted/hosted_run.h"
#include "runtime/peer/replication/chunk_batch.h"
#include "runtime/peer/replication/generation_offer.h"
#include "tests/fuzz/formats.h"

namespace ppdsm::fuzz {

namespace {

GenerationRecord a_record() {
    GenerationRecord record;
    record.generation = 3;
    record.epoch = 2;
    record.predecessor = 1;
    record.manifest = ChunkId::of(as_bytes("manifest"));
    record.output_bytes = 10;
    record.input_bytes = 11;
    record.input_signals = 1;
    record.pause_us = 12;
    record.bytes_new = 13;
    record.bytes_total = 14;
    record.unix_ms = 1'600'000'000'000;
    record.catalog_bytes = 15;
    return record;
}

Manifest a_manifest() {
    Manifest manifest;
    manifest.vc_id = "aaaabbbb";
    manifest.epoch = 2;
    manifest.generation = 3;
    manifest.predecessor = 1;
    manifest.created_unix_ms = 1'600'000'000'000;
    manifest.stdio = {"pipe:[1]", "pipe:[2]", ""};
    Layer layer;
    layer.name = "tmp";
    LayerEntry root;
    root.type = LayerEntry::Type::kDirectory;
    root.mode = 0755;
    LayerEntry link;
    link.path = "link";
    link.type = LayerEntry::Type::kSymlink;
    link.target = "elsewhere";
    link.attributes = {{"user.key", "value"}};
    layer.entries = {root, link};
    manifest.layers = {layer};
    manifest.mounts = {{"devnull", "/dev/null"}};
    manifest.host = {"4.1.1", "6.1.0", "x86_64", {"avx", "sse2"}};
    return manifest;
}

ViewPlan a_plan() {
    ViewPlan plan;
    plan.roots = {{PlannedRoot::Kind::kReadOnly, "/usr", "/usr", true, true},
                  {PlannedRoot::Kind::kLower, "/work", "/home/user/work", false, true}};
    plan.places = {{"/work", 0755, 1000, 1000, true}, {"tmp", 01777, 0, 0, false}};
    plan.links = {{"/bin", "usr/bin"}};
    plan.directories = {"/home"};
    return plan;
}

DeployOrder an_order() {
    DeployOrder order;
    order.record.id = "aaaabbbb";
    order.record.name = "job";
    order.record.program = "/usr/bin/true";
    order.record.arguments = {"true"};
    order.record.environment = {"A=b"};
    order.record.working_directory = "/work";
    order.epoch = 4;
    order.generation = a_record();
    order.output_bytes = 10;
    order.released = {1, 2, 3};
    order.replicas = {filled<PeerId>(1)};
    order.sources = {filled<PeerId>(2), filled<PeerId>(3)};
    order.plan = a_plan();
    return order;
}

Result<Bytes> batch_again(ByteView bytes) {
    const ChunkBatch batch{{bytes.begin(), bytes.end()}};
    PPDSM_ASSIGN(const BatchContent content, read_batch(batch));
    BatchWriter writer;
    for (const ChunkId& id : content.missing) (void)writer.add_missing(id);
    return writer.finish().payload;
}

Bytes a_batch() {
    BatchWriter writer;
    (void)writer.add_missing(ChunkId::of(as_bytes("chunk")));
    return writer.finish().payload;
}

/// Unpacked, as a replica does before it believes a name.
Result<Bytes> blocks_again(ByteView bytes) {
    const ChunkBatch batch{{bytes.begin(), bytes.end()}};
    PPDSM_ASSIGN(const BatchContent content, read_batch(batch));
    BatchWriter writer;
    Bytes raw;
    for (const StoredBlockView& block : content.blocks) {
        PPDSM_TRY(unpack_block(block, raw));
        (void)writer.add({block.method, block.raw_bytes, block.lengths_bytes,
                          Bytes(block.stored.begin(), block.stored.end())});
    }
    return writer.finish().payload;
}

/// 8192 times 'x'; by hand, since each release of LZ4 finds another block for the same bytes: an
/// 'x', and from one byte before it 19 + 32 * 255 + 7 more; five as they are.
Bytes many_x_as_lz4() {
    return to_bytes(std::string("\x1Fx\1\0", 4) + std::string(32, '\xFF') + "\7Pxxxxx");
}

Bytes some_blocks() {
    BatchWriter writer;
    (void)writer.add({pack::Method::kRaw, 8, {3, 5}, {1, 2, 3, 4, 5, 6, 7, 8}});
    (void)writer.add({pack::Method::kLz4, 8192, {4096, 4096}, many_x_as_lz4()});
    return writer.finish().payload;
}

Result<Bytes> piece_again(ByteView bytes) {
    const ManifestPiece piece{{bytes.begin(), bytes.end()}};
    PPDSM_ASSIGN(const ManifestPieceContent content, read_manifest_piece(piece));
    return make_manifest_piece(content.offset_bytes, content.content).payload;
}

}  // namespace

void add_generation_formats(std::vector<Format>& all) {
    const ChunkId name = ChunkId::of(as_bytes("manifest"));
    all.push_back(format_of("offer", GenerationOffer{"aaaabbbb", 2, 3, 1, name, 3, {1, 2, 3}},
                            encode_offer, decode_offer));
    all.push_back(format_of("offer-answer",
                            OfferAnswer{"aaaabbbb", 3, name, PullReport{1, 2, 3, 4, 5, 6, 7}},
                            encode_offer_answer, decode_offer_answer));
    all.push_back(
        format_of("pull-ended", PullEnded{"aaaabbbb", 3}, encode_pull_ended, decode_pull_ended));
    all.push_back(format_of("chunk-request", ChunkRequest{"aaaabbbb", 3, {name}},
                            encode_chunk_request, decode_chunk_request));
    all.push_back(format_of("manifest-request", ManifestRequest{"aaaabbbb", 3, name, 4},
                            encode_manifest_request, decode_manifest_request));
    all.push_back({"chunk-batch", a_batch(), batch_again});
    all.push_back({"chunk-blocks", some_blocks(), blocks_again});
    all.push_back(
        {"manifest-piece", make_manifest_piece(4, as_bytes("piece")).payload, piece_again});
    all.push_back(format_of(
        "manifest", a_manifest(), [](const Manifest& each) { return *encode_manifest(each); },
        decode_manifest));
    all.push_back(format_of(
        "generation", a_record(),
        [](const GenerationRecord& each) { return to_bytes(format_generation(each)); },
        [](ByteView bytes) { return parse_generation(as_text(bytes)); }));
    all.push_back(format_of("deploy", an_order(), encode_order, decode_order));
    all.push_back(format_of(
        "view-plan", a_plan(), [](const ViewPlan& each) { return to_bytes(encode_plan(each)); },
        [](ByteView bytes) { return decode_plan(as_text(bytes)); }));
}

}  // namespace ppdsm::fuzz
