#include "criu-glue/images/flag_text.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <csignal>
#include <cstring>
#include <ctime>
#include <iterator>
#include <span>

namespace ppdsm::images {
namespace {

struct NamedFlag {
    std::uint32_t bits;
    const char* name;
};

void append(std::string& text, const std::string& word, const char* separator) {
    if (!text.empty()) text += separator;
    text += word;
}

std::string names_of(std::uint32_t flags, std::span<const NamedFlag> known, std::string text) {
    for (const NamedFlag& flag : known) {
        // Some names cover the bits of others and stand before them in the table.
        if ((flags & flag.bits) != flag.bits) continue;
        append(text, flag.name, "|");
        flags &= ~flag.bits;
    }
    if (flags != 0) append(text, fmt::format("{:#x}", flags), "|");
    return text;
}

// What the kernel itself adds to every open file of a 64-bit process.
constexpr std::uint32_t kKernelLargeFile = 0100000;

constexpr NamedFlag kOpenFlags[] = {
    {O_TMPFILE, "O_TMPFILE"},   {O_SYNC, "O_SYNC"},         {O_DSYNC, "O_DSYNC"},
    {O_APPEND, "O_APPEND"},     {O_NONBLOCK, "O_NONBLOCK"}, {O_CREAT, "O_CREAT"},
    {O_EXCL, "O_EXCL"},         {O_TRUNC, "O_TRUNC"},       {O_NOCTTY, "O_NOCTTY"},
    {O_ASYNC, "O_ASYNC"},       {O_DIRECT, "O_DIRECT"},     {O_DIRECTORY, "O_DIRECTORY"},
    {O_NOFOLLOW, "O_NOFOLLOW"}, {O_NOATIME, "O_NOATIME"},   {O_CLOEXEC, "O_CLOEXEC"},
    {O_PATH, "O_PATH"},
};

constexpr NamedFlag kMapFlags[] = {
    {MAP_PRIVATE, "MAP_PRIVATE"},     {MAP_SHARED, "MAP_SHARED"},       {MAP_FIXED, "MAP_FIXED"},
    {MAP_ANONYMOUS, "MAP_ANONYMOUS"}, {MAP_GROWSDOWN, "MAP_GROWSDOWN"}, {MAP_LOCKED, "MAP_LOCKED"},
    {MAP_NORESERVE, "MAP_NORESERVE"}, {MAP_POPULATE, "MAP_POPULATE"},   {MAP_STACK, "MAP_STACK"},
    {MAP_HUGETLB, "MAP_HUGETLB"},
};

}  // namespace

std::string open_flags_text(std::uint32_t flags) {
    constexpr const char* kAccess[] = {"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"};
    const std::uint32_t rest = flags & ~(static_cast<std::uint32_t>(O_ACCMODE) | kKernelLargeFile);
    return names_of(rest, kOpenFlags, kAccess[flags & O_ACCMODE]);
}

std::string map_flags_text(std::uint32_t flags) { return names_of(flags, kMapFlags, {}); }

std::string protection_text(std::uint32_t protection, bool shared) {
    std::string text;
    text += (protection & PROT_READ) != 0 ? 'r' : '-';
    text += (protection & PROT_WRITE) != 0 ? 'w' : '-';
    text += (protection & PROT_EXEC) != 0 ? 'x' : '-';
    text += shared ? 's' : 'p';
    return text;
}

std::string signal_set_text(std::uint64_t mask) {
    std::string text;
    for (int number = 1; number <= 64; ++number) {
        if ((mask >> (number - 1) & 1U) == 0) continue;
        const char* name = ::sigabbrev_np(number);
        append(text, name != nullptr ? std::string(name) : std::to_string(number), " ");
    }
    return text;
}

std::string clock_text(std::uint32_t clock) {
    switch (clock) {
        case CLOCK_REALTIME: return "CLOCK_REALTIME";
        case CLOCK_MONOTONIC: return "CLOCK_MONOTONIC";
        case CLOCK_BOOTTIME: return "CLOCK_BOOTTIME";
        case CLOCK_REALTIME_ALARM: return "CLOCK_REALTIME_ALARM";
        case CLOCK_BOOTTIME_ALARM: return "CLOCK_BOOTTIME_ALARM";
        default: return fmt::format("clock {}", clock);
    }
}

std::string socket_type_text(std::uint32_t type) {
    switch (type) {
        case SOCK_STREAM: return "stream";
        case SOCK_DGRAM: return "datagram";
        case SOCK_SEQPACKET: return "sequenced packet";
        case SOCK_RAW: return "raw";
        default: return fmt::format("type {}", type);
    }
}

std::string internet_address_text(std::uint32_t family, const std::uint32_t* words,
                                  std::size_t count, std::uint32_t port) {
    // CRIU keeps the words as they lie in memory, that is in network order.
    char text[INET6_ADDRSTRLEN] = "?";
    if (family == AF_INET && count >= 1) {
        in_addr address{};
        std::memcpy(&address, words, sizeof address);
        ::inet_ntop(AF_INET, &address, text, sizeof text);
        return fmt::format("{}:{}", text, port);
    }
    if (family == AF_INET6 && count >= 4) {
        in6_addr address{};
        std::memcpy(&address, words, sizeof address);
        ::inet_ntop(AF_INET6, &address, text, sizeof text);
    }
    return fmt::format("[{}]:{}", text, port);
}

}  // namespace ppdsm::images
