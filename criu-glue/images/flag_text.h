// Kernel constants as words: open(2) and mmap(2) flags, clocks, signals, socket types. Bits without
// a name are shown as a number, never dropped. Internal to this room.
#pragma once

#include <cstdint>
#include <string>

namespace ppdsm::images {

std::string open_flags_text(std::uint32_t flags);                    ///< "O_RDWR|O_APPEND"
std::string map_flags_text(std::uint32_t flags);                     ///< "MAP_PRIVATE|..."
std::string protection_text(std::uint32_t protection, bool shared);  ///< "rw-p"
std::string signal_set_text(std::uint64_t mask);                     ///< "HUP USR2"
std::string clock_text(std::uint32_t clock);                         ///< "CLOCK_MONOTONIC"
std::string socket_type_text(std::uint32_t type);                    ///< "stream"
std::string internet_address_text(std::uint32_t family, const std::uint32_t* words,
                                  std::size_t count, std::uint32_t port);  ///< "127.0.0.1:80"

}  // namespace ppdsm::images
