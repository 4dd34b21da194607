// What a deployment tells of a virtual thread to whoever keeps its virtual computer.
#pragma once

#include <cstdint>
#include <string>

#include "dsm/base/files.h"
#include "runtime/peer/run.h"
#include "runtime/peer/vc_record.h"

namespace ppdsm {

class ThreadWatcher {
public:
    virtual ~ThreadWatcher() = default;
    /// Its process asks something of its computer.
    virtual void on_call(const VcRecord& thread, ByteView call) = 0;
    /// Its process runs there.
    virtual void on_placed(const VcRecord& thread, const std::string& peer) = 0;
    /// Every generation that is kept has the answers to so many of its calls.
    virtual void on_covered(const VcRecord& thread, std::uint64_t calls) = 0;
    /// It begins again with the call after that.
    virtual void on_rolled_back(const VcRecord& thread, std::uint64_t calls) = 0;
    /// For good, with all that it wrote.
    virtual void on_ended(const VcRecord& thread, const Outcome& outcome) = 0;
};

}  // namespace ppdsm
