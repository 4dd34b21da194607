#include "runtime/peer/commit_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

namespace ppdsm {

using Json = nlohmann::json;

namespace {

constexpr std::size_t kChecksumDigits = 16;

std::string checksum(std::string_view text) {
    return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

std::string line_of(const std::string& json) { return checksum(json) + " " + json + "\n"; }

Result<ChunkId> parse_chunk_id(const std::string& text) {
    ChunkId id;
    if (text.size() != 2 * id.bytes.size()) return fail(Code::kCorrupt, "chunk name " + text);
    for (std::size_t i = 0; i < id.bytes.size(); ++i) {
        const char* const digits = text.data() + 2 * i;
        const auto [end, error] = std::from_chars(digits, digits + 2, id.bytes[i], 16);
        if (error != std::errc() || end != digits + 2) {
            return fail(Code::kCorrupt, "chunk name " + text);
        }
    }
    return id;
}

Json to_json(const GenerationRecord& record) {
    Json json = {{"type", "generation"},
                 {"generation", record.generation},
                 {"epoch", record.epoch},
                 {"predecessor", record.predecessor},
                 {"manifest", record.manifest.to_string()},
                 {"output", record.output_bytes},
                 {"input", record.input_bytes},
                 {"signals", record.input_signals},
                 {"pause_us", record.pause_us},
                 {"cut_us", record.cut_us},
                 {"bytes_new", record.bytes_new},
                 {"bytes_total", record.bytes_total},
                 {"unix_ms", record.unix_ms},
                 {"catalog", record.catalog_bytes}};
    if (record.calls != 0) json["calls"] = record.calls;
    return json;
}

/// Throws what the parser throws.
GenerationRecord generation_from(const Json& json) {
    GenerationRecord record;
    json.at("generation").get_to(record.generation);
    json.at("epoch").get_to(record.epoch);
    json.at("predecessor").get_to(record.predecessor);
    json.at("output").get_to(record.output_bytes);
    json.at("input").get_to(record.input_bytes);
    json.at("signals").get_to(record.input_signals);
    json.at("pause_us").get_to(record.pause_us);
    json.at("cut_us").get_to(record.cut_us);
    json.at("bytes_new").get_to(record.bytes_new);
    json.at("bytes_total").get_to(record.bytes_total);
    json.at("unix_ms").get_to(record.unix_ms);
    record.catalog_bytes = json.value("catalog", std::uint64_t{0});
    record.calls = json.value("calls", std::uint64_t{0});
    const Result<ChunkId> id = parse_chunk_id(json.at("manifest").get<std::string>());
    if (!id) throw Json::other_error::create(501, id.error().message(), &json);
    record.manifest = *id;
    return record;
}

void replay(CommitState& state, const Json& json) {
    const auto type = json.at("type").get<std::string>();
    if (type == "epoch") {
        json.at("epoch").get_to(state.epoch);
        state.restores.clear();
    } else if (type == "unprotected") {
        state.unprotected = true;
    } else if (type == "generation") {
        state.unprotected = false;
        state.generations.push_back(generation_from(json));
    } else if (type == "restored") {
        ++state.restores[json.at("generation").get<std::uint64_t>()];
    } else if (type == "dropped") {
        const auto generation = json.at("generation").get<std::uint64_t>();
        std::erase_if(state.generations, [&](const GenerationRecord& record) {
            return record.generation == generation;
        });
    } else if (type == "ended") {
        state.end = EndRecord{json.at("status").get<int>(), json.at("output").get<std::uint64_t>(),
                              json.at("failure").get<std::string>()};
    } else if (type == "applied") {
        state.applied = true;
    }
}

/// Replays the sound prefix and returns its length in bytes. A wrong line in the middle is damage.
Result<std::size_t> replay_all(std::string_view text, CommitState& state, const std::string& path) {
    std::size_t at = 0;
    while (at < text.size()) {
        const std::size_t end = text.find('\n', at);
        const std::string_view line =
            text.substr(at, end == std::string_view::npos ? end : end - at);
        const bool whole =
            end != std::string_view::npos && line.size() > kChecksumDigits &&
            line[kChecksumDigits] == ' ' &&
            checksum(line.substr(kChecksumDigits + 1)) == line.substr(0, kChecksumDigits);
        if (!whole) {
            // A kill tears a record before its newline; a whole line that is wrong is damage.
            if (end == std::string_view::npos) return at;
            return fail(Code::kCorrupt,
                        path + ": record at byte " + std::to_string(at) + " is damaged");
        }
        try {
            replay(state, Json::parse(line.substr(kChecksumDigits + 1)));
        } catch (const Json::exception& bad) {
            return fail(Code::kCorrupt,
                        path + ": record at byte " + std::to_string(at) + ": " + bad.what());
        }
        at = end + 1;
    }
    return at;
}

}  // namespace

std::string format_generation(const GenerationRecord& record) { return to_json(record).dump(); }

Result<GenerationRecord> parse_generation(std::string_view json) {
    try {
        return generation_from(Json::parse(json));
    } catch (const Json::exception& bad) {
        return fail(Code::kCorrupt, std::string("generation record: ") + bad.what());
    }
}

Result<CommitState> CommitLog::read(const std::filesystem::path& path) {
    Result<std::string> text = read_text(path);
    CommitState state;
    if (!text && text.error().code() == Code::kNotFound) return state;
    if (!text) return fail(text.error());
    PPDSM_TRY(replay_all(*text, state, path.string()));
    return state;
}

Result<CommitLog> CommitLog::open(const std::filesystem::path& path) {
    PPDSM_ASSIGN(OwnedFd fd, open_file(path, O_RDWR | O_CREAT | O_APPEND, 0600));
    PPDSM_TRY(sync_directory(path.parent_path()));
    CommitLog log(std::move(fd));
    PPDSM_ASSIGN(const std::string text, read_text(path));
    PPDSM_ASSIGN(const std::size_t sound, replay_all(text, log.state_, path.string()));
    if (sound != text.size() && ::ftruncate(log.fd_.get(), static_cast<off_t>(sound)) != 0) {
        return fail_errno("cut the torn end off " + path.string());
    }
    return log;
}

Status CommitLog::install(const std::filesystem::path& path, std::uint64_t epoch,
                          const std::vector<GenerationRecord>& generations) {
    std::string text = line_of(Json{{"type", "epoch"}, {"epoch", epoch - 1}}.dump());
    for (const GenerationRecord& record : generations) text += line_of(format_generation(record));
    return replace_file(path, as_bytes(text), 0600);
}

Status CommitLog::append(const std::string& json) {
    const std::string line = line_of(json);
    const off_t before = ::lseek(fd_.get(), 0, SEEK_END);
    Status written = write_all(fd_, as_bytes(line));
    if (written) written = sync_fd(fd_);
    if (!written) {
        // Half a line must not stand before the next one.
        if (::ftruncate(fd_.get(), before) != 0) return fail_errno("undo a failed commit record");
        return fail(written.error().within("commit log"));
    }
    replay(state_, Json::parse(json));
    return {};
}

Status CommitLog::begin_epoch() {
    return append(Json{{"type", "epoch"}, {"epoch", state_.epoch + 1}}.dump());
}
Status CommitLog::commit(const GenerationRecord& record) {
    return append(format_generation(record));
}
Status CommitLog::note_restore(std::uint64_t generation) {
    return append(Json{{"type", "restored"}, {"generation", generation}}.dump());
}
Status CommitLog::note_dropped(std::uint64_t generation) {
    return append(Json{{"type", "dropped"}, {"generation", generation}}.dump());
}
Status CommitLog::note_unprotected() {
    if (state_.unprotected) return {};
    return append(Json{{"type", "unprotected"}}.dump());
}
Status CommitLog::end(const EndRecord& record) {
    return append(Json{{"type", "ended"},
                       {"status", record.wait_status},
                       {"output", record.output_bytes},
                       {"failure", record.failure}}
                      .dump());
}
Status CommitLog::note_applied() { return append(Json{{"type", "applied"}}.dump()); }

}  // namespace ppdsm
