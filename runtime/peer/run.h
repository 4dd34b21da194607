// A run of one virtual computer's program, whoever carries it out: an executor in this process, or
// one elsewhere that is reached through a socket or the mesh. What may be asked of it, and what it
// tells those who watch. Everything on the loop's thread.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "criu-glue/files/layer.h"
#include "criu-glue/sandbox/refusal_log.h"
#include "runtime/peer/commit_log.h"
#include "runtime/peer/journals.h"
#include "runtime/peer/vc_record.h"

namespace ppdsm {

/// How a run ended for its user.
struct Outcome {
    int exit_code = 0;                      ///< As the shell would report it; 125: ppdsm failed.
    std::string failure = {};               ///< Why, when ppdsm failed or ended the run.
    std::optional<Code> failure_code = {};  ///< When ppdsm failed.
    ApplyReport files = {};                 ///< What was written at home.
    Refusals refusals = {};                 ///< What the program asked for in vain.
};

struct RunStatistics {
    std::uint64_t generations = 0;
    std::uint64_t restores = 0;
    std::uint64_t pause_us_sum = 0;
    std::uint64_t pause_us_max = 0;
    std::uint64_t bytes_new = 0;
    std::uint64_t bytes_total = 0;  ///< Of the last generation.

    void add(const GenerationRecord& record);
};

/// Output of a virtual thread that the program has spawned may be shown, from its own log.
struct ThreadRelease {
    std::string vc;                  ///< The virtual thread's own.
    std::uint64_t output_bytes = 0;  ///< Of its output log.
    bool has_ended = false;          ///< No more comes.
};

/// Who watches a run: the front-end, the events file.
class RunObserver {
public:
    virtual ~RunObserver() = default;
    virtual void on_started(pid_t /*program*/) {}
    virtual void on_committed(const GenerationRecord& /*record*/) {}
    /// A checkpoint did not come about; the program goes on. `protected_now`: there is an earlier
    /// one.
    virtual void on_checkpoint_failed(const Error& /*reason*/, bool /*protected_now*/) {}
    virtual void on_died(const std::string& /*cause*/) {}
    virtual void on_restored(std::uint64_t /*generation*/) {}
    /// With --files commit: a generation is committed, but its files are not all at home yet.
    virtual void on_files_not_written(const Error& /*reason*/) {}
    /// There is no room to keep the program's output; the program waits.
    virtual void on_output_stalled(const Error& /*reason*/) {}
    /// Output log up to this offset may be shown for good.
    virtual void on_released(std::uint64_t /*output_bytes*/) {}
    virtual void on_thread_released(const ThreadRelease& /*release*/) {}
    /// Output just written, not released: a preview.
    virtual void on_preview(Stream /*stream*/, ByteView /*data*/) {}
    virtual void on_finished(const Outcome& /*outcome*/) {}
    /// Where it runs, why there, and what is lacking: "runs at b (k3fq-7m2x)".
    virtual void on_notice(const std::string& /*text*/) {}
};

class Run {
public:
    virtual ~Run() = default;

    void add_observer(RunObserver& observer) { observers_.push_back(&observer); }
    void remove_observer(RunObserver& observer) { std::erase(observers_, &observer); }

    virtual void give_input(ByteView data) = 0;
    virtual void end_input() = 0;
    [[nodiscard]] virtual bool wants_input() const = 0;
    /// Nobody reads this stream any more.
    virtual void hang_up(Stream stream) = 0;
    /// The reader is far behind: the program's pipes fill up, as they would without us.
    virtual void hold_output(bool reader_is_behind) = 0;
    virtual void resize_terminal(unsigned short rows, unsigned short columns) = 0;
    /// To the program's process group, remembered so that a rolled-back program gets it again.
    virtual void forward_signal(int signal) = 0;
    /// Ends the run by SIGKILL, whatever it is doing; it is not brought back and its files are not
    /// written home.
    virtual void kill(std::string reason) = 0;

    using CheckpointDone = std::function<void(const Result<GenerationRecord>&)>;
    /// Now, or as soon as the one under way is done.
    virtual void checkpoint(CheckpointDone done) = 0;

    [[nodiscard]] virtual const VcRecord& record() const = 0;
    [[nodiscard]] virtual const InputJournal& input() const = 0;
    [[nodiscard]] virtual const OutputLog& output() const = 0;
    [[nodiscard]] virtual const RunStatistics& statistics() const = 0;
    /// For `ppdsm ps`: state, generation, pids and so on.
    [[nodiscard]] virtual nlohmann::json status() const = 0;

protected:
    template <typename Call>
    void notify(Call call) {
        const std::vector<RunObserver*> watching = observers_;
        for (RunObserver* observer : watching) {
            const bool still =
                std::find(observers_.begin(), observers_.end(), observer) != observers_.end();
            if (still) call(*observer);
        }
    }

private:
    std::vector<RunObserver*> observers_;
};

}  // namespace ppdsm
