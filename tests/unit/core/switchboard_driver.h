// Drives a Switchboard as virtual threads and their hosts would, for its tests.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "runtime/core/switchboard.h"

namespace ppdsm {

inline Value value(const std::string& text, std::uint64_t type = 7) {
    return {type, std::make_shared<const Bytes>(text.begin(), text.end())};
}

inline std::string text_of(const Value& value) {
    return value.bytes == nullptr ? "" : std::string(value.bytes->begin(), value.bytes->end());
}

/// Of what a test's calls say: enough to tell them apart.
inline std::uint64_t digest_of(const Call& call) {
    std::string text = std::to_string(call.index());
    if (const auto* send = std::get_if<call::Send>(&call)) {
        text += std::to_string(static_cast<std::uint64_t>(send->thread)) + text_of(send->value);
    } else if (const auto* report = std::get_if<call::Report>(&call)) {
        text += text_of(report->value);
    } else if (const auto* receive = std::get_if<call::Receive>(&call)) {
        text += std::to_string(static_cast<std::uint64_t>(receive->sender));
    } else if (const auto* end = std::get_if<call::End>(&call)) {
        text += text_of(end->outcome.value);
    }
    return std::hash<std::string>{}(text);
}

class SwitchboardTest : public testing::Test {
protected:
    std::vector<switchboard::Effect> step(const switchboard::Event& event) {
        std::vector<switchboard::Effect> effects;
        board_.step(now_us_, event, effects);
        for (const switchboard::Effect& effect : effects) {
            if (const auto* answer = std::get_if<switchboard::Answer>(&effect)) {
                answers_[answer->thread] = {answer->number, answer->answer};
            } else if (const auto* start = std::get_if<switchboard::Start>(&effect)) {
                started_.push_back(start->thread);
            } else if (const auto* stop = std::get_if<switchboard::Stop>(&effect)) {
                stopped_.push_back(stop->thread);
            } else if (const auto* failed = std::get_if<switchboard::Failed>(&effect)) {
                failure_ = failed->why;
            }
        }
        return effects;
    }
    /// The next call of `thread`; false: it waits.
    bool call(ThreadId thread, Call what, std::int64_t timeout_ns = -1) {
        return repeat(thread, ++numbers_[thread], std::move(what), timeout_ns);
    }
    bool repeat(ThreadId thread, std::uint64_t number, Call what, std::int64_t timeout_ns = -1) {
        answers_.erase(thread);
        const std::uint64_t digest = digest_of(what);
        step(switchboard::Called{{thread, number, timeout_ns, digest, std::move(what)}});
        return answers_.contains(thread);
    }
    [[nodiscard]] const CallAnswer& answer(ThreadId thread) const {
        return answers_.at(thread).second;
    }
    [[nodiscard]] bool has_answer(ThreadId thread) const { return answers_.contains(thread); }
    template <typename Content>
    [[nodiscard]] const Content& content(ThreadId thread) const {
        return std::get<Content>(answer(thread).content);
    }
    void open(std::uint32_t workers = 0) {
        call::Open open;
        open.options.workers = workers;
        ASSERT_TRUE(call(kRootThread, open));
    }
    /// Begun, unless there is no slot for it.
    ThreadId spawn(ThreadId spawner, const std::string& name = "") {
        EXPECT_TRUE(call(spawner, call::Spawn{{}, value("arguments"), name}));
        const ThreadId child = content<ThreadId>(spawner);
        if (!started_.empty() && started_.back() == child) {
            step(switchboard::Placed{child, "p"});
            EXPECT_TRUE(call(child, call::Begin{}));
        }
        return child;
    }
    void end(ThreadId thread, const std::string& result) {
        EXPECT_TRUE(call(thread, call::End{{abi::kResult, value(result)}}));
        step(switchboard::Gone{thread, "exit code 0"});
    }
    bool send(ThreadId from, ThreadId to, const std::string& text, std::int64_t timeout_ns = -1) {
        return call(from, call::Send{to, {}, value(text)}, timeout_ns);
    }
    bool receive(ThreadId thread, ThreadId from = kNoThread, std::int64_t timeout_ns = -1) {
        return call(thread, call::Receive{{}, from, 7, "text"}, timeout_ns);
    }
    std::string received(ThreadId thread) { return text_of(content<ThreadMessage>(thread).value); }
    bool next_event(ThreadId thread, std::int64_t timeout_ns = -1) {
        return call(thread, call::NextEvent{}, timeout_ns);
    }

    std::int64_t now_us_ = 1'000'000;
    Switchboard board_{{1000, 1000, 4, 10}};
    std::map<ThreadId, std::uint64_t> numbers_;
    std::map<ThreadId, std::pair<std::uint64_t, CallAnswer>> answers_;
    std::vector<ThreadId> started_;
    std::vector<ThreadId> stopped_;
    std::string failure_;
};

}  // namespace ppdsm
