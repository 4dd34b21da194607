// `--events FILE`: what happens to a run, one JSON object a line, for programs.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "runtime/peer/run.h"

namespace ppdsm {

class EventFile final : public RunObserver {
public:
    static Result<std::unique_ptr<EventFile>> open(const std::filesystem::path& path,
                                                   const std::string& vc_id);

    void on_started(pid_t program) override;
    void on_committed(const GenerationRecord& record) override;
    void on_checkpoint_failed(const Error& reason, bool protected_now) override;
    void on_died(const std::string& cause) override;
    void on_restored(std::uint64_t generation) override;
    void on_notice(const std::string& text) override;
    void on_finished(const Outcome& outcome) override;

private:
    EventFile(OwnedFd fd, std::string vc_id) : fd_(std::move(fd)), vc_id_(std::move(vc_id)) {}
    void write(const char* event, nlohmann::json details);
    OwnedFd fd_;
    std::string vc_id_;
};

}  // namespace ppdsm
