#include "runtime/peer/program_files/exposure_walk.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace ppdsm {

namespace {

/// Contents are made durable in batches of what is complete: many at once cost little more.
constexpr std::size_t kStepsAtOnce = 128;
constexpr std::size_t kMostProblems = 1000;

}  // namespace

bool ExposureWalk::is_root(const std::string& path) const {
    return std::any_of(plan_.roots.begin(), plan_.roots.end(),
                       [&](const PlannedRoot& root) { return root.target == path; });
}

void ExposureWalk::start(std::function<void(const FileBroker::Progress&)> progress,
                         std::function<void(Result<FileBroker::Exposures>)> done) {
    progress_ = std::move(progress);
    done_ = std::move(done);
    for (const PlannedRoot& root : plan_.roots) {
        // A file that is a root has its version in a listing of its own.
        if (!root.is_system) steps_.push_back({root.target, true, 0});
    }
    go_on();
}

/// Files before directories: so the queue stays short.
void ExposureWalk::go_on() {
    if (std::exchange(is_going_on_, true)) return;  // An answer that came at once.
    while (done_ && under_way_ < kStepsAtOnce && !steps_.empty()) {
        const Step step = std::move(steps_.front());
        steps_.pop_front();
        ++under_way_;
        step.is_directory ? list(step) : fetch(step);
    }
    is_going_on_ = false;
    if (under_way_ == 0 && done_) std::exchange(done_, {})(std::move(found_));
}

void ExposureWalk::list(const Step& step) {
    need_listing_(step.path,
                  [self = shared_from_this(), path = step.path](Result<Listing> listing) {
                      if (!listing) return self->step_done(path, &listing.error());
                      self->take_entries(path, **listing);
                      self->step_done(path, nullptr);
                  });
}

void ExposureWalk::take_entries(const std::string& path, const DirectoryListing& listing) {
    if (S_ISREG(listing.self.mode)) {
        steps_.push_front({path, false, listing.self.size_bytes});
        return;
    }
    ++found_.total.directories;
    for (const ListedEntry& entry : listing.entries) {
        std::string below = (path == "/" ? "" : path) + "/" + entry.name;
        if (S_ISREG(entry.attributes.mode)) {
            steps_.push_front({std::move(below), false, entry.attributes.size_bytes});
        } else if (S_ISDIR(entry.attributes.mode) && !is_root(below)) {
            steps_.push_back({std::move(below), true, 0});
        }
    }
}

void ExposureWalk::fetch(const Step& step) {
    need_content_(step.path, [self = shared_from_this(), path = step.path,
                              size_bytes = step.size_bytes](const Result<OwnedFd>& file) {
        if (!file) return self->step_done(path, &file.error());
        ++self->found_.total.files;
        self->found_.total.bytes += size_bytes;
        self->step_done(path, nullptr);
    });
}

void ExposureWalk::step_done(const std::string& path, const Error* error) {
    --under_way_;
    if (!done_) return;
    if (error != nullptr) {
        if (error->code() == Code::kOverloaded || error->code() == Code::kUnavailable) {
            return std::exchange(done_, {})(fail(*error));
        }
        if (found_.problems.size() < kMostProblems) {
            found_.problems.push_back(path + ": " + error->message());
        }
    }
    if (progress_) progress_(found_.total);
    go_on();
}

}  // namespace ppdsm
