// `ppdsm memory search|dump`: the memory of a process in a checkpoint.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/checkpoint_ref.h"
#include "cli/commands.h"
#include "cli/duration.h"
#include "cli/inspect.h"
#include "criu-glue/images/memory_image.h"
#include "criu-glue/images/process_image.h"
#include "runtime/peer/stored_images.h"

namespace ppdsm {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kLineBytes = 16;
constexpr std::uint64_t kMaxDumpBytes = std::uint64_t{64} << 20;

struct Options {
    std::string reference;
    std::string pattern;
    std::string address;
    std::string size = "256";
    std::uint32_t pid = 0;
    std::uint64_t limit = 100;
    bool hex = false;
    bool json = false;
};

/// "68 65-6c6c6f" as bytes.
Result<Bytes> parse_hex(const std::string& text) {
    std::string digits;
    for (const char c : text) {
        if (std::isxdigit(static_cast<unsigned char>(c)) != 0)
            digits += c;
        else if (c != ' ' && c != '-' && c != ':')
            return fail(Code::kInvalid, "\"" + text + "\" is not hexadecimal");
    }
    if (digits.empty() || digits.size() % 2 != 0)
        return fail(Code::kInvalid, "\"" + text + "\": a byte has two digits");
    Bytes bytes;
    for (std::size_t i = 0; i < digits.size(); i += 2) {
        bytes.push_back(static_cast<std::uint8_t>(std::stoul(digits.substr(i, 2), nullptr, 16)));
    }
    return bytes;
}

std::string text_of(ByteView bytes) {
    std::string text;
    for (const std::uint8_t byte : bytes)
        text += byte >= 0x20 && byte < 0x7F ? static_cast<char>(byte) : '.';
    return text;
}

struct Opened {
    std::unique_ptr<StoredImages> images;
    std::vector<std::uint32_t> pids;
};

/// The generation and its processes with memory, or just the one that was asked for.
Result<Opened> open_memory(const Options& options) {
    PPDSM_ASSIGN(const CheckpointRef found, find_checkpoint(options.reference));
    Opened opened;
    PPDSM_ASSIGN(opened.images, StoredImages::open(found.paths, found.generation));
    PPDSM_ASSIGN(const ProcessTree tree, read_process_tree(*opened.images));
    for (const ProcessImage& process : tree.processes) {
        const bool wanted = options.pid == 0 ? process.pid != 1 : process.pid == options.pid;
        if (wanted && !process.mappings.empty()) opened.pids.push_back(process.pid);
    }
    if (opened.pids.empty()) {
        return fail(
            Code::kNotFound,
            fmt::format("no process {} with memory in {}; `ppdsm checkpoint show {}` lists them",
                        options.pid, options.reference, options.reference));
    }
    return opened;
}

int run_search(const Options& options) {
    Bytes pattern(options.pattern.begin(), options.pattern.end());
    if (options.hex) {
        Result<Bytes> parsed = parse_hex(options.pattern);
        if (!parsed) return report(parsed.error());
        pattern = *std::move(parsed);
    }
    Result<Opened> opened = open_memory(options);
    if (!opened) return report(opened.error());
    Json matches = Json::array();
    for (const std::uint32_t pid : opened->pids) {
        Result<MemoryImage> memory = MemoryImage::open(*opened->images, pid);
        if (!memory) return report(memory.error());
        const Status searched = memory->search(pattern, [&](const MemoryMatch& match) {
            matches.push_back({{"pid", pid},
                               {"address", fmt::format("{:#x}", match.address)},
                               {"context", text_of(match.context)}});
            return matches.size() < options.limit;
        });
        if (!searched) return report(searched.error());
        if (matches.size() >= options.limit) break;
    }
    if (options.json) {
        fmt::print("{}\n", matches.dump(1));
    } else {
        for (const Json& match : matches) {
            fmt::print("{:>6}  {:>14}  {}\n", match["pid"].get<std::uint32_t>(),
                       match["address"].get<std::string>(), match["context"].get<std::string>());
        }
        if (matches.size() >= options.limit)
            fmt::print(stderr, "ppdsm: stopped after {} matches; --limit asks for more\n",
                       options.limit);
    }
    return matches.empty() ? 1 : 0;
}

int run_dump(const Options& options) {
    char* end = nullptr;
    const std::uint64_t address = std::strtoull(options.address.c_str(), &end, 0);
    if (end == options.address.c_str() || *end != '\0')
        return report(Error(Code::kInvalid, options.address + " is not an address"));
    const Result<std::uint64_t> size = parse_size(options.size);
    if (!size) return report(size.error());
    if (*size > kMaxDumpBytes) return report(Error(Code::kInvalid, "at most 64M at a time"));
    Result<Opened> opened = open_memory(options);
    if (!opened) return report(opened.error());
    Result<MemoryImage> memory = MemoryImage::open(*opened->images, opened->pids.front());
    if (!memory) return report(memory.error());
    Bytes content(*size);
    const auto holes = memory->read(address, content);
    if (!holes) return report(holes.error());
    for (std::size_t at = 0; at < content.size(); at += kLineBytes) {
        const ByteView line =
            ByteView(content).subspan(at, std::min(kLineBytes, content.size() - at));
        const bool hole = std::any_of(holes->begin(), holes->end(), [&](const AddressRange& range) {
            return address + at >= range.start && address + at < range.end;
        });
        if (hole) {
            fmt::print("{:016x}  (not in the checkpoint)\n", address + at);
            continue;
        }
        fmt::print("{:016x}  {:<47}  |{}|\n", address + at,
                   fmt::format("{:02x}", fmt::join(line, " ")), text_of(line));
    }
    return 0;
}

}  // namespace

void add_memory_commands(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<Options>();
    CLI::App* memory = app.add_subcommand("memory", "Look into the memory of a checkpoint");
    memory->require_subcommand(1);
    CLI::App* search = memory->add_subcommand("search", "Where a pattern stands");
    search->add_option("CHECKPOINT", options->reference, "VC[@N]")->required();
    search->add_option("PATTERN", options->pattern, "Text, or bytes with --hex")->required();
    search->add_flag("--hex", options->hex, "The pattern is hexadecimal");
    search->add_option("--pid", options->pid, "Only this process (its number inside)");
    search->add_option("--limit", options->limit, "At most so many matches")->capture_default_str();
    search->add_flag("--json", options->json, "For programs");
    search->callback([options, &exit_code] { exit_code = run_search(*options); });

    CLI::App* dump = memory->add_subcommand("dump", "Show a range of memory");
    dump->add_option("CHECKPOINT", options->reference, "VC[@N]")->required();
    dump->add_option("ADDRESS", options->address)->required();
    dump->add_option("SIZE", options->size)->capture_default_str();
    dump->add_option("--pid", options->pid, "The process (its number inside)");
    dump->callback([options, &exit_code] { exit_code = run_dump(*options); });
}

}  // namespace ppdsm
