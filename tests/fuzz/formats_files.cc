// What passes between peers of a program's files.
#include "criu-glue/sandbox/directory_listing.h"
#include "runtime/peer/mesh/file_messages.h"
#include "tests/fuzz/formats.h"

namespace ppdsm::fuzz {

namespace {

FileId a_file() { return {ChunkId::of(as_bytes("file"))}; }

DirectoryListing a_listing() {
    DirectoryListing listing;
    listing.self = {0040755, 0, 0, 2, 4096, 8, 0, 1, 2};
    listing.entries = {{"file", {0100644, 1, 2, 1, 5, 8, 0, 3, 4}, ""},
                       {"link", {0120777, 0, 0, 1, 4, 0, 0, 5, 6}, "file"}};
    listing.sort();
    return listing;
}

/// A reply may be an error that the other side sends; one that cannot be read is none.
template <typename Reply>
auto whole(Reply (*decode)(ByteView)) {
    return [decode](ByteView bytes) -> Result<Reply> {
        Reply reply = decode(bytes);
        if (!reply && reply.error().code() == Code::kCorrupt) return fail(reply.error());
        return reply;
    };
}

}  // namespace

void add_file_formats(std::vector<Format>& all) {
    all.push_back(format_of("listing", a_listing(), encode_listing, decode_listing));
    all.push_back(format_of("list-request",
                            ListRequest{"aaaabbbb", {{"/work", a_file()}, {"/usr", {}}}},
                            encode_list_request, decode_list_request));
    const std::vector<Result<ListAnswer>> answers = {
        ListAnswer{a_file(), false, encode_listing(a_listing())},
        fail(Code::kNotFound, "it is not there")};
    all.push_back(
        format_of("list-reply", ListReply{answers}, encode_list_reply, whole(decode_list_reply)));
    all.push_back(format_of("content-request",
                            ContentRequest{"aaaabbbb", "/work/file", {5, 3, 4}, {}},
                            encode_content_request, decode_content_request));
    const FileLayout layout{5, {ChunkId::of(as_bytes("piece"))}};
    all.push_back(format_of("content-reply", ContentReply{ContentAnswer{layout, true}},
                            encode_content_reply, whole(decode_content_reply)));
    all.push_back(format_of("piece-request", PieceRequest{"aaaabbbb", a_file(), 7},
                            encode_piece_request, decode_piece_request));
    all.push_back(format_of("piece-reply", Result<Bytes>(Bytes{1, 2, 3}), encode_piece_reply,
                            whole(decode_piece_reply)));
    all.push_back(format_of("hold-request", HoldRequest{"aaaabbbb", 5, {1, 2}, {filled<PeerId>(1)}},
                            encode_hold_request, decode_hold_request));
    all.push_back(
        format_of("hold-reply", HoldReply{9}, encode_hold_reply, whole(decode_hold_reply)));
    all.push_back(format_of("catalog-request", CatalogRequest{"aaaabbbb", 5},
                            encode_catalog_request, decode_catalog_request));
    all.push_back(format_of("catalog-reply", Result<Bytes>(Bytes{4, 5}), encode_catalog_reply,
                            whole(decode_catalog_reply)));
}

}  // namespace ppdsm::fuzz
