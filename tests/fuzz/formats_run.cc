// What tells of a run: the lines that deployer and worker exchange, its logs, and the catalog of
// what its program was shown.
#include <stdlib.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "dsm/base/check.h"
#include "dsm/wire/codec.h"
#include "messages_generated.h"
#include "runtime/peer/commit_log.h"
#include "runtime/peer/journals.h"
#include "runtime/peer/local/run_server.h"
#include "runtime/peer/mesh/run_messages.h"
#include "runtime/peer/program_files/file_catalog.h"
#include "tests/fuzz/formats.h"
#include "tests/fuzz/unnamed_file.h"

namespace ppdsm::fuzz {

namespace {

using Json = nlohmann::json;

// Lines.

/// The fields that a daemon reads of an event or a command, whichever it is.
void use_line(const Json& head) {
    (void)parse_generation(head.value("record", ""));
    (void)outcome_to_json(outcome_from_json(head));
    (void)error_from_json(head.value("error", Json()));
    (void)failures_from_json(head);
    for (const char* list : {"replicas", "peers", "lacking"}) {
        (void)peers_from_json(head.value(list, Json::array()));
    }
    (void)utf8_to_bytes(head.value("why", ""));
}

Result<Bytes> line_again(ByteView bytes) {
    PPDSM_ASSIGN(const wire::EventT event, decode_message<wire::Event>(bytes));
    PPDSM_TRY(with_head(event.head, use_line));
    return encode_message<wire::Event>(event);
}

Bytes a_line() {
    GenerationRecord record;
    record.generation = 3;
    record.manifest = ChunkId::of(as_bytes("manifest"));
    Outcome outcome;
    outcome.exit_code = 125;
    outcome.failure = "the d\xEFsk is full";
    outcome.failure_code = Code::kIo;
    outcome.files.written = {"/work/a"};
    outcome.files.conflicts = {{"/work/c", "/work/c.ppdsm"}};
    Json head = outcome_to_json(outcome);
    head["event"] = "propose";
    head["record"] = format_generation(record);
    head["error"] = error_to_json({Code::kUnavailable, "gone"});
    head["replicas"] = peers_to_json({filled<PeerId>(1), filled<PeerId>(2)});
    put_failures(head, {"south: gone", {filled<PeerId>(2)}});
    wire::EventT event;
    event.vc = "aaaabbbb";
    event.epoch = 4;
    event.head = head.dump();
    event.data = {3};
    return encode_message<wire::Event>(event);
}

// The catalog.

/// What a replica makes of further lines.
Result<Bytes> catalog_again(ByteView bytes) {
    const UnnamedFile kept;
    PPDSM_ASSIGN(FileCatalog catalog, FileCatalog::open(kept.path()));
    if (const Status added = catalog.append_bytes(0, bytes); !added) {
        // Nothing of what is refused may stay, here or there.
        PPDSM_CHECK(catalog.contents().empty() && kept.content().empty());
        return fail(added.error());
    }
    PPDSM_ASSIGN(const FileCatalog again, FileCatalog::open(kept.path()));
    PPDSM_CHECK(again.contents() == catalog.contents());
    return kept.content();
}

Bytes a_catalog() {
    const UnnamedFile kept;
    FileCatalog catalog = FileCatalog::open(kept.path()).value();
    PPDSM_CHECK(catalog.add_listing("/work", {ChunkId::of(as_bytes("listing"))}));
    PPDSM_CHECK(catalog.add_content("/work/a b\nc\\d", {ChunkId::of(as_bytes("file"))}, 4711));
    return kept.content();
}

// Logs.

/// The pieces that would be shown, as a log of their own; up to the first that is none.
Result<Bytes> output_again(ByteView frames) {
    const UnnamedFile kept;
    const UnnamedFile shown;
    PPDSM_ASSIGN(OutputLog log, OutputLog::open(kept.path(), true));
    PPDSM_ASSIGN(OutputLog again, OutputLog::open(shown.path(), true));
    PPDSM_TRY(log.append_frames(frames));
    for (std::uint64_t at = 0; at < log.size_bytes();) {
        PPDSM_ASSIGN(const OutputLog::Piece piece, log.read(at, log.size_bytes()));
        PPDSM_CHECK(piece.next_bytes > at);
        PPDSM_TRY(again.append(piece.stream, piece.data));
        at = piece.next_bytes;
    }
    return shown.content();
}

Bytes an_output() {
    const UnnamedFile kept;
    OutputLog log = OutputLog::open(kept.path(), true).value();
    PPDSM_CHECK(log.append(Stream::kStdout, as_bytes("hello\n")));
    PPDSM_CHECK(log.append(Stream::kStderr, as_bytes("warning\n")));
    return kept.content();
}

/// Without a torn end.
Result<Bytes> input_again(ByteView bytes) {
    const UnnamedFile kept(bytes);
    PPDSM_ASSIGN(const InputJournal journal, InputJournal::open(kept.path()));
    PPDSM_TRY(journal.read(10, 4096));
    PPDSM_CHECK(journal.signals_from(0).size() <= journal.signal_count());
    if (bytes.size() > kept.content().size()) return fail(Code::kCorrupt, "its end is torn");
    return kept.content();
}

Bytes an_input() {
    const UnnamedFile kept;
    InputJournal journal = InputJournal::open(kept.path()).value();
    PPDSM_CHECK(journal.append_base(10, 2));
    PPDSM_CHECK(journal.append_data(as_bytes("more\n")));
    PPDSM_CHECK(journal.append_signal(15));
    PPDSM_CHECK(journal.append_end());
    return kept.content();
}

/// The shortest log that says this.
Result<Bytes> encode_commits(const CommitState& state) {
    std::string directory = "/dev/shm/ppdsm-commits-XXXXXX";  // Where a sync costs nothing.
    if (::mkdtemp(directory.data()) == nullptr) return fail_errno("make a directory");
    const std::filesystem::path path = std::filesystem::path(directory) / "commits.log";
    const auto write = [&]() -> Result<Bytes> {
        PPDSM_TRY(CommitLog::install(path, state.epoch + 1, state.generations));
        PPDSM_ASSIGN(CommitLog log, CommitLog::open(path));
        for (const auto& [generation, times] : state.restores) {
            for (std::uint32_t i = 0; i < times; ++i) PPDSM_TRY(log.note_restore(generation));
        }
        if (state.unprotected) PPDSM_TRY(log.note_unprotected());
        if (state.end) PPDSM_TRY(log.end(*state.end));
        if (state.applied) PPDSM_TRY(log.note_applied());
        return read_file(path);
    };
    Result<Bytes> written = write();
    std::filesystem::remove_all(directory);
    return written;
}

Result<Bytes> commits_again(ByteView bytes) {
    const UnnamedFile kept(bytes);
    PPDSM_ASSIGN(const CommitState state, CommitLog::read(kept.path()));
    return encode_commits(state);
}

Bytes some_commits() {
    CommitState state;
    state.epoch = 3;
    state.generations.resize(2);
    state.generations[0].generation = 7;
    state.generations[1].generation = 8;
    state.generations[1].manifest = ChunkId::of(as_bytes("manifest"));
    state.restores = {{7, 2}, {8, 1}};
    state.unprotected = true;
    state.end = EndRecord{7 << 8, 222, "it was killed"};
    state.applied = true;
    return encode_commits(state).value();
}

}  // namespace

void add_run_formats(std::vector<Format>& all) {
    all.push_back({"line", a_line(), line_again});
    all.push_back({"catalog-lines", a_catalog(), catalog_again});
    all.push_back({"output-log", an_output(), output_again});
    all.push_back({"input-journal", an_input(), input_again});
    all.push_back({"commits", some_commits(), commits_again});
}

}  // namespace ppdsm::fuzz
