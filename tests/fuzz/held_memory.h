// How much memory something takes while it runs. Whoever links this counts all that is allocated
// by new.
#pragma once

#include <cstddef>
#include <functional>

namespace ppdsm::fuzz {

/// The most that is held at a time in `work`, beyond what was held before.
std::size_t most_held_in(const std::function<void()>& work);

}  // namespace ppdsm::fuzz
