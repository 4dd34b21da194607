#include "criu-glue/store/pack_writer.h"

#include <utility>

#include "dsm/base/check.h"

namespace ppdsm {

PackWriter::PackWriter(std::filesystem::path path, ChunkIndex& index)
    : path_(std::move(path)), index_(index) {}

PackWriter::~PackWriter() {
    // Jobs refer to our blocks.
    for (const auto& block : full_) {
        if (block->job && workers_ != nullptr) workers_->wait(*block->job);
    }
}

Status PackWriter::append(ChunkIndex::Number entry, ByteView content) {
    if (!state_) return state_;
    const std::uint32_t stream = content.size() == pack::kMaxChunkBytes ? 0 : 1;
    OpenBlock& open = open_[stream];
    if (open.raw.size() + content.size() > pack::kMaxBlockBytes) {
        state_ = seal(open);
        if (!state_) return state_;
    }
    if (open.raw.empty()) open.raw.reserve(pack::kMaxBlockBytes);
    index_[entry].place = {kPendingPack, kOpenBlock + stream,
                           static_cast<std::uint16_t>(open.raw.size()),
                           static_cast<std::uint16_t>(content.size())};
    open.raw.insert(open.raw.end(), content.begin(), content.end());
    open.entries.push_back(entry);
    return {};
}

Status PackWriter::append_block(std::span<const ChunkIndex::Number> entries,
                                std::span<const std::uint16_t> lengths_bytes, ByteView raw,
                                pack::PackedBlock packed) {
    if (!state_) return state_;
    const auto number = static_cast<std::uint32_t>(blocks_.size() + full_.size());
    std::size_t at = 0;
    for (std::size_t i = 0; i < entries.size(); ++i) {
        index_[entries[i]].place = {kPendingPack, number, static_cast<std::uint16_t>(at),
                                    lengths_bytes[i]};
        at += lengths_bytes[i];
    }
    PPDSM_CHECK(at == raw.size());
    order_.insert(order_.end(), entries.begin(), entries.end());
    auto block = std::make_unique<FullBlock>();
    block->chunk_count = static_cast<std::uint32_t>(entries.size());
    block->raw.assign(raw.begin(), raw.end());
    block->packed = std::move(packed);
    full_.push_back(std::move(block));
    // With workers the blocks before it may still be under way.
    if (workers_ == nullptr) state_ = write_oldest();
    return state_;
}

Status PackWriter::use_workers(WorkerPool* workers) {
    if (state_ && workers == nullptr) state_ = write_all_full();
    if (workers == nullptr) {
        for (const auto& block : full_) {  // What a failed write left.
            if (block->job) workers_->wait(*block->job);
            block->job.reset();
        }
    }
    workers_ = workers;
    return state_;
}

Result<pack::Index> PackWriter::finish() {
    for (OpenBlock& open : open_) {
        if (state_ && !open.raw.empty()) state_ = seal(open);
    }
    if (state_) state_ = write_all_full();
    if (state_ && !file_) state_ = create_file();
    if (!state_) return fail(state_.error());
    pack::Index contents;
    contents.blocks = blocks_;
    contents.names.reserve(order_.size());
    contents.lengths_bytes.reserve(order_.size());
    for (const ChunkIndex::Number entry : order_) {
        contents.names.push_back(index_[entry].id);
        contents.lengths_bytes.push_back(index_[entry].place.length_bytes());
    }
    const Bytes tail = pack::encode_tail(contents);
    state_ = write_all_at(file_->fd(), tail, end_bytes_).and_then([&] { return file_->commit(); });
    if (!state_) {
        state_ = fail(state_.error().within(path_.string()));
        return fail(state_.error());
    }
    end_bytes_ = contents.pack_bytes;
    return contents;
}

std::optional<ByteView> PackWriter::in_memory(const ChunkPlace& place) const {
    if (place.block >= kOpenBlock) {
        return ByteView(open_[place.block - kOpenBlock].raw)
            .subspan(place.offset_bytes, place.length_bytes());
    }
    if (place.block < blocks_.size()) return std::nullopt;
    return ByteView(full_[place.block - blocks_.size()]->raw)
        .subspan(place.offset_bytes, place.length_bytes());
}

Status PackWriter::read_block(std::uint32_t block, Bytes& raw, Bytes& scratch) const {
    PPDSM_CHECK(block < blocks_.size() && file_);
    return pack::read_block(file_->fd(), blocks_[block], raw, scratch);
}

Status PackWriter::seal(OpenBlock& open) {
    const auto number = static_cast<std::uint32_t>(blocks_.size() + full_.size());
    for (const ChunkIndex::Number entry : open.entries) index_[entry].place.block = number;
    order_.insert(order_.end(), open.entries.begin(), open.entries.end());
    auto block = std::make_unique<FullBlock>();
    block->chunk_count = static_cast<std::uint32_t>(open.entries.size());
    block->raw = std::exchange(open.raw, {});
    open.entries.clear();
    FullBlock* const target = block.get();
    full_.push_back(std::move(block));
    if (workers_ == nullptr) {
        target->packed = pack::compress_block(target->raw);
        return write_oldest();
    }
    target->job =
        workers_->submit([target] { target->packed = pack::compress_block(target->raw); });
    const std::size_t window = 8 * (workers_->threads() + 1);
    while (full_.size() > window) PPDSM_TRY(write_oldest());
    return {};
}

Status PackWriter::write_oldest() {
    FullBlock& block = *full_.front();
    if (block.job) workers_->wait(*block.job);
    block.job.reset();
    if (!file_) PPDSM_TRY(create_file());
    if (Status written = write_all_at(file_->fd(), block.packed.stored, end_bytes_); !written) {
        return fail(written.error().within(path_.string()));
    }
    blocks_.push_back({.offset_bytes = end_bytes_,
                       .checksum = block.packed.checksum,
                       .stored_bytes = static_cast<std::uint32_t>(block.packed.stored.size()),
                       .raw_bytes = static_cast<std::uint32_t>(block.raw.size()),
                       .chunk_count = block.chunk_count,
                       .method = block.packed.method});
    end_bytes_ += block.packed.stored.size();
    full_.pop_front();
    return {};
}

Status PackWriter::write_all_full() {
    while (!full_.empty()) PPDSM_TRY(write_oldest());
    return {};
}

Status PackWriter::create_file() {
    PPDSM_ASSIGN(PendingFile file, PendingFile::create(path_));
    const auto header = pack::encode_header();
    if (Status written = write_all_at(file.fd(), header, 0); !written) {
        return fail(written.error().within(path_.string()));
    }
    end_bytes_ = header.size();
    file_.emplace(std::move(file));
    return {};
}

}  // namespace ppdsm
