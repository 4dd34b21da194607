// The messages about programs' files (dsm/wire/files.fbs) as plain structs, and back. What comes
// from another peer is checked here: kCorrupt ends its link.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "dsm/base/peer_id.h"
#include "runtime/peer/program_files/file_source.h"

namespace ppdsm {

/// A catalog travels in slices of whole lines, at most so long.
inline constexpr std::size_t kMostSliceBytes = std::size_t{1} << 20;

struct ListRequest {
    std::string vc;
    std::vector<ListQuery> queries;
};
using ListReply = Result<std::vector<Result<ListAnswer>>>;

struct ContentRequest {
    std::string vc;
    std::string path;  ///< Of the owner, in that version; empty: by `file`, of whoever has it.
    FileVersion version;
    std::optional<FileId> file;
};
using ContentReply = Result<ContentAnswer>;

struct PieceRequest {
    std::string vc;
    FileId file;
    std::uint32_t index = 0;
};

struct HoldRequest {
    std::string vc;
    std::uint64_t offset_bytes = 0;
    Bytes catalog;
    std::vector<PeerId> holders;
};
/// Of the catalog that the replica has with all that it names.
using HoldReply = Result<std::uint64_t>;

struct CatalogRequest {
    std::string vc;
    std::uint64_t offset_bytes = 0;
};

Bytes encode_list_request(const ListRequest& request);
Result<ListRequest> decode_list_request(ByteView bytes);
/// Listings that would make it too long are left out: they are fetched as contents.
Bytes encode_list_reply(const ListReply& reply);
ListReply decode_list_reply(ByteView bytes);

Bytes encode_content_request(const ContentRequest& request);
Result<ContentRequest> decode_content_request(ByteView bytes);
Bytes encode_content_reply(const ContentReply& reply);
ContentReply decode_content_reply(ByteView bytes);

Bytes encode_piece_request(const PieceRequest& request);
Result<PieceRequest> decode_piece_request(ByteView bytes);
Bytes encode_piece_reply(const Result<Bytes>& reply);
Result<Bytes> decode_piece_reply(ByteView bytes);

Bytes encode_hold_request(const HoldRequest& request);
Result<HoldRequest> decode_hold_request(ByteView bytes);
Bytes encode_hold_reply(const HoldReply& reply);
HoldReply decode_hold_reply(ByteView bytes);

Bytes encode_catalog_request(const CatalogRequest& request);
Result<CatalogRequest> decode_catalog_request(ByteView bytes);
Bytes encode_catalog_reply(const Result<Bytes>& slice);
Result<Bytes> decode_catalog_reply(ByteView bytes);

}  // namespace ppdsm
