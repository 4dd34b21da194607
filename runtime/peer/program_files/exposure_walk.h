// The walk over everything that a plan exposes beyond the system's: every directory's listing and
// every file's content, so many at a time. It only asks; who is asked keeps what he gets.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "criu-glue/sandbox/directory_listing.h"
#include "runtime/peer/program_files/file_broker.h"

namespace ppdsm {

class ExposureWalk : public std::enable_shared_from_this<ExposureWalk> {
public:
    using Listing = std::shared_ptr<const DirectoryListing>;
    using NeedListing =
        std::function<void(const std::string& path, std::function<void(Result<Listing>)>)>;
    using NeedContent =
        std::function<void(const std::string& path, std::function<void(Result<OwnedFd>)>)>;

    ExposureWalk(const ViewPlan& plan, NeedListing need_listing, NeedContent need_content)
        : plan_(plan),
          need_listing_(std::move(need_listing)),
          need_content_(std::move(need_content)) {}

    void start(std::function<void(const FileBroker::Progress&)> progress,
               std::function<void(Result<FileBroker::Exposures>)> done);

private:
    struct Step {
        std::string path;
        bool is_directory;
        std::uint64_t size_bytes;
    };
    void go_on();
    void list(const Step& step);
    void fetch(const Step& step);
    void take_entries(const std::string& path, const DirectoryListing& listing);
    /// Of a step: over when the walk cannot go on after it.
    void step_done(const std::string& path, const Error* error);
    [[nodiscard]] bool is_root(const std::string& path) const;

    ViewPlan plan_;
    NeedListing need_listing_;
    NeedContent need_content_;
    std::function<void(const FileBroker::Progress&)> progress_;
    std::function<void(Result<FileBroker::Exposures>)> done_;
    std::deque<Step> steps_;
    std::size_t under_way_ = 0;
    bool is_going_on_ = false;
    FileBroker::Exposures found_;
};

}  // namespace ppdsm
