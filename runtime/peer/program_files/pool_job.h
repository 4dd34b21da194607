// Work on a pool thread whose result comes back to the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "dsm/io/loop.h"

namespace ppdsm {

/// `work()` gives a Result; `done` gets it. Both own what they need.
template <typename Work, typename Done>
void run_in_pool(Loop& loop, Work work, Done done) {
    using Value = decltype(work());
    // std::function wants copies; what these two hold may only be moved.
    struct Job {
        Work work;
        Done done;
        std::optional<Value> value;
    };
    auto job = std::make_shared<Job>(Job{std::move(work), std::move(done), {}});
    loop.offload([job] { job->value.emplace(job->work()); },
                 [job] { job->done(*std::move(job->value)); });
}

}  // namespace ppdsm
