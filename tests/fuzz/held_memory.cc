#include "tests/fuzz/held_memory.h"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::size_t> held_bytes;
std::atomic<std::size_t> most_held_bytes;

}  // namespace

// All other forms of new and delete come here.
void* operator new(std::size_t size) {
    void* memory = std::malloc(size == 0 ? 1 : size);
    if (memory == nullptr) throw std::bad_alloc();
    const std::size_t now = held_bytes += malloc_usable_size(memory);
    if (now > most_held_bytes) most_held_bytes = now;
    return memory;
}
void operator delete(void* memory) noexcept {
    held_bytes -= malloc_usable_size(memory);
    std::free(memory);
}
void operator delete(void* memory, std::size_t /*size*/) noexcept { ::operator delete(memory); }

namespace ppdsm::fuzz {

std::size_t most_held_in(const std::function<void()>& work) {
    const std::size_t before = held_bytes;
    most_held_bytes = before;
    work();
    return most_held_bytes - before;
}

}  // namespace ppdsm::fuzz
