#include "runtime/peer/mesh/file_messages.h"

#include <algorithm>

#include "dsm/wire/codec.h"
#include "files_generated.h"
#include "runtime/peer/home.h"
#include "runtime/peer/mesh/gossip_codec.h"
#include "runtime/peer/view_plan.h"

namespace ppdsm {

namespace {

constexpr std::size_t kLongListingBytes = std::size_t{64} << 10;
constexpr std::size_t kMostReplyBytes = std::size_t{8} << 20;
constexpr std::size_t kMostPathBytes = 4096;
constexpr std::size_t kMostHolders = 64;

wire::ContentHash hash_of(const ChunkId& id) {
    return wire::ContentHash(flatbuffers::span<const std::uint8_t, 16>(id.bytes.data(), 16));
}
std::unique_ptr<wire::ContentHash> boxed(const FileId& file) {
    return std::make_unique<wire::ContentHash>(hash_of(file.hash));
}
ChunkId chunk_of(const wire::ContentHash& hash) {
    ChunkId id;
    std::copy_n(hash.bytes()->data(), id.bytes.size(), id.bytes.begin());
    return id;
}
std::optional<FileId> file_of(const std::unique_ptr<wire::ContentHash>& hash) {
    if (hash == nullptr) return {};
    return FileId{chunk_of(*hash)};
}

std::unique_ptr<wire::FilesErrorT> packed(const Error& error) {
    auto made = std::make_unique<wire::FilesErrorT>();
    made->code = static_cast<std::uint8_t>(error.code());
    made->text = error.message();
    return made;
}
Error unpacked(const wire::FilesErrorT& error) {
    const bool is_known = error.code <= static_cast<std::uint8_t>(Code::kIo);
    return {is_known ? static_cast<Code>(error.code) : Code::kIo, error.text};
}

Bytes bytes_from_text(const std::string& text) { return {text.begin(), text.end()}; }

tl::unexpected<Error> malformed(const char* what) {
    return fail(Code::kCorrupt, std::string(what) + " that is none");
}

}  // namespace

// Listings.

Bytes encode_list_request(const ListRequest& request) {
    wire::FilesListRequestT message;
    message.vc = request.vc;
    for (const ListQuery& query : request.queries) {
        auto& made = message.queries.emplace_back(std::make_unique<wire::ListQueryT>());
        made->path = bytes_from_text(query.path);
        if (query.known) made->known = boxed(*query.known);
    }
    return encode_message<wire::FilesListRequest>(message);
}

Result<ListRequest> decode_list_request(ByteView bytes) {
    PPDSM_ASSIGN(const auto message, decode_message<wire::FilesListRequest>(bytes));
    ListRequest request{message.vc, {}};
    if (!is_vc_id(request.vc) || message.queries.size() > FileSource::kMostQueries) {
        return malformed("a question for directories");
    }
    for (const auto& query : message.queries) {
        std::string path(as_text(query->path));
        if (path.size() > kMostPathBytes || !is_clean_path(path)) return malformed("a path");
        request.queries.push_back({std::move(path), file_of(query->known)});
    }
    return request;
}

Bytes encode_list_reply(const ListReply& reply) {
    wire::FilesListReplyT message;
    if (!reply) {
        message.error = packed(reply.error());
        return encode_message<wire::FilesListReply>(message);
    }
    std::size_t room_bytes = kMostReplyBytes;
    for (const Result<ListAnswer>& answer : *reply) {
        auto& made = message.results.emplace_back(std::make_unique<wire::ListResultT>());
        if (!answer) {
            made->error = packed(answer.error());
            continue;
        }
        made->listing = boxed(answer->listing);
        made->unchanged = answer->unchanged;
        const std::size_t size_bytes = answer->bytes.size();
        if (size_bytes > std::min(kLongListingBytes, room_bytes)) continue;
        made->bytes = answer->bytes;
        room_bytes -= size_bytes;
    }
    return encode_message<wire::FilesListReply>(message);
}

ListReply decode_list_reply(ByteView bytes) {
    PPDSM_ASSIGN(auto message, decode_message<wire::FilesListReply>(bytes));
    if (message.error) return fail(unpacked(*message.error));
    std::vector<Result<ListAnswer>> answers;
    for (const auto& result : message.results) {
        if (result->error) {
            answers.emplace_back(fail(unpacked(*result->error)));
        } else if (!result->listing) {
            answers.emplace_back(malformed("a listing"));
        } else {
            answers.emplace_back(
                ListAnswer{*file_of(result->listing), result->unchanged, std::move(result->bytes)});
        }
    }
    return answers;
}

// Contents.

Bytes encode_content_request(const ContentRequest& request) {
    wire::FilesContentRequestT message;
    message.vc = request.vc;
    message.path = bytes_from_text(request.path);
    message.size_bytes = request.version.size_bytes;
    message.mtime_ns = request.version.mtime_ns;
    message.ctime_ns = request.version.ctime_ns;
    if (request.file) message.file = boxed(*request.file);
    return encode_message<wire::FilesContentRequest>(message);
}

Result<ContentRequest> decode_content_request(ByteView bytes) {
    PPDSM_ASSIGN(const auto message, decode_message<wire::FilesContentRequest>(bytes));
    ContentRequest request{message.vc,
                           std::string(as_text(message.path)),
                           {message.size_bytes, message.mtime_ns, message.ctime_ns},
                           file_of(message.file)};
    const bool names_path = request.path.size() <= kMostPathBytes && is_clean_path(request.path);
    if (!is_vc_id(request.vc) || (request.file ? !request.path.empty() : !names_path)) {
        return malformed("a question for a content");
    }
    return request;
}

Bytes encode_content_reply(const ContentReply& reply) {
    wire::FilesContentReplyT message;
    if (!reply) {
        message.error = packed(reply.error());
        return encode_message<wire::FilesContentReply>(message);
    }
    message.size_bytes = reply->layout.size_bytes;
    message.settled = reply->is_settled;
    message.pieces.reserve(reply->layout.pieces.size());
    for (const PieceId& piece : reply->layout.pieces) message.pieces.push_back(hash_of(piece));
    return encode_message<wire::FilesContentReply>(message);
}

ContentReply decode_content_reply(ByteView bytes) {
    PPDSM_ASSIGN(const auto message, decode_message<wire::FilesContentReply>(bytes));
    if (message.error) return fail(unpacked(*message.error));
    ContentAnswer answer;
    answer.layout.size_bytes = message.size_bytes;
    answer.is_settled = message.settled;
    answer.layout.pieces.reserve(message.pieces.size());
    for (const auto& piece : message.pieces) answer.layout.pieces.push_back(chunk_of(piece));
    if (!answer.layout.is_sound()) return malformed("a layout");
    return answer;
}

Bytes encode_piece_request(const PieceRequest& request) {
    wire::FilesPieceRequestT message;
    message.vc = request.vc;
    message.file = boxed(request.file);
    message.index = request.index;
    return encode_message<wire::FilesPieceRequest>(message);
}

Result<PieceRequest> decode_piece_request(ByteView bytes) {
    PPDSM_ASSIGN(const auto message, decode_message<wire::FilesPieceRequest>(bytes));
    if (!is_vc_id(message.vc)) return malformed("a question for a piece");
    return PieceRequest{message.vc, *file_of(message.file), message.index};
}

Bytes encode_piece_reply(const Result<Bytes>& reply) {
    wire::FilesPieceReplyT message;
    if (reply) {
        message.bytes = *reply;
    } else {
        message.error = packed(reply.error());
    }
    return encode_message<wire::FilesPieceReply>(message);
}

Result<Bytes> decode_piece_reply(ByteView bytes) {
    PPDSM_ASSIGN(auto message, decode_message<wire::FilesPieceReply>(bytes));
    if (message.error) return fail(unpacked(*message.error));
    return std::move(message.bytes);
}

// Catalogs.

Bytes encode_hold_request(const HoldRequest& request) {
    wire::FilesHoldRequestT message;
    message.vc = request.vc;
    message.offset_bytes = request.offset_bytes;
    message.catalog = request.catalog;
    for (const PeerId& holder : request.holders) {
        message.holders.emplace_back(std::make_unique<wire::PeerNameT>())->id = bytes_of(holder);
    }
    return encode_message<wire::FilesHoldRequest>(message);
}

Result<HoldRequest> decode_hold_request(ByteView bytes) {
    PPDSM_ASSIGN(auto message, decode_message<wire::FilesHoldRequest>(bytes));
    if (!is_vc_id(message.vc) || message.holders.size() > kMostHolders) {
        return malformed("a request to hold files");
    }
    HoldRequest request{message.vc, message.offset_bytes, std::move(message.catalog), {}};
    for (const auto& holder : message.holders) {
        PPDSM_ASSIGN(const PeerId id, peer_id_from(holder->id));
        request.holders.push_back(id);
    }
    return request;
}

Bytes encode_hold_reply(const HoldReply& reply) {
    wire::FilesHoldReplyT message;
    if (reply) {
        message.size_bytes = *reply;
    } else {
        message.error = packed(reply.error());
    }
    return encode_message<wire::FilesHoldReply>(message);
}

HoldReply decode_hold_reply(ByteView bytes) {
    PPDSM_ASSIGN(const auto message, decode_message<wire::FilesHoldReply>(bytes));
    if (message.error) return fail(unpacked(*message.error));
    return message.size_bytes;
}

Bytes encode_catalog_request(const CatalogRequest& request) {
    wire::FilesCatalogRequestT message;
    message.vc = request.vc;
    message.offset_bytes = request.offset_bytes;
    return encode_message<wire::FilesCatalogRequest>(message);
}

Result<CatalogRequest> decode_catalog_request(ByteView bytes) {
    PPDSM_ASSIGN(const auto message, decode_message<wire::FilesCatalogRequest>(bytes));
    if (!is_vc_id(message.vc)) return malformed("a question for a catalog");
    return CatalogRequest{message.vc, message.offset_bytes};
}

Bytes encode_catalog_reply(const Result<Bytes>& slice) {
    wire::FilesCatalogReplyT message;
    if (slice) {
        message.bytes = *slice;
    } else {
        message.error = packed(slice.error());
    }
    return encode_message<wire::FilesCatalogReply>(message);
}

Result<Bytes> decode_catalog_reply(ByteView bytes) {
    PPDSM_ASSIGN(auto message, decode_message<wire::FilesCatalogReply>(bytes));
    if (message.error) return fail(unpacked(*message.error));
    return std::move(message.bytes);
}

}  // namespace ppdsm
