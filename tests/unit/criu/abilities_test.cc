// Goal: probes tell the truth and leave no trace in the process that asks. What is there differs
// from machine to machine, so the tests compare answers with what can be seen in another way.
#include "criu-glue/criu/abilities.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <set>
#include <string>

#include "criu-glue/criu/probe_child.h"
#include "dsm/base/files.h"

namespace ppdsm {
namespace {

namespace fs = std::filesystem;

std::string namespace_links() {
    std::string links;
    for (const char* kind :
         {"user", "mnt", "pid_for_children", "ipc", "uts", "net", "time_for_children"}) {
        const fs::path link = fs::path("/proc/self/ns") / kind;
        if (fs::exists(link)) links += fs::read_symlink(link).string() + "\n";
    }
    return links;
}

TEST(ProbeInChild, HandsTheAnswerBack) {
    const ProbeResult present = probe_in_child([] { return ProbeResult{true, "well"}; });
    EXPECT_TRUE(present.present);
    EXPECT_EQ(present.detail, "well");
    const ProbeResult absent = probe_in_child([] { return ProbeResult{false, ""}; });
    EXPECT_FALSE(absent.present);
}

TEST(ProbeInChild, TakesACrashForAbsence) {
    const ProbeResult crashed = probe_in_child([]() -> ProbeResult {
        ::signal(SIGTERM, SIG_DFL);
        ::raise(SIGTERM);
        return {true, "unreachable"};
    });
    EXPECT_FALSE(crashed.present);
    EXPECT_NE(crashed.detail.find("crashed"), std::string::npos) << crashed.detail;
}

TEST(Abilities, AreNamedOnceAndSayWhatToDo) {
    const Result<Abilities> abilities = probe_abilities();
    ASSERT_TRUE(abilities) << abilities.error().message();
    std::set<std::string> names;
    for (const Ability& ability : abilities->list) {
        EXPECT_TRUE(names.insert(ability.name).second) << ability.name;
        EXPECT_FALSE(ability.detail.empty()) << ability.name;
        EXPECT_FALSE(ability.cost.empty()) << ability.name;
        EXPECT_FALSE(ability.remedy.empty()) << ability.name;
    }
    for (const char* name :
         {"soft-dirty", "userfaultfd", "pagemap-scan", "cgroups", "fuse", "time-namespaces",
          "user-namespaces", "overlay-in-user-namespace", "CAP_CHECKPOINT_RESTORE", "CAP_SYS_ADMIN",
          "CAP_SYS_RESOURCE", "futex-waitv", "vdso", "cpu-features"}) {
        EXPECT_NE(abilities->find(name), nullptr) << name;
    }
    EXPECT_EQ(abilities->find("no such ability"), nullptr);
}

TEST(Abilities, LeaveNoTrace) {
    const std::string before = namespace_links();
    ASSERT_TRUE(probe_abilities());
    EXPECT_EQ(namespace_links(), before);
    // Not compared as a whole: other tests may mount at the same time.
    const Result<std::string> mounts = read_text("/proc/self/mountinfo");
    ASSERT_TRUE(mounts);
    for (const char* ours : {"ppdsm-probe", "/tmp/merged", "/tmp/fuse"}) {
        EXPECT_EQ(mounts->find(ours), std::string::npos) << ours;
    }
}

TEST(Abilities, AgreeWithTheKernelsOwnWords) {
    const Result<Abilities> abilities = probe_abilities();
    ASSERT_TRUE(abilities) << abilities.error().message();
    const Result<std::string> status = read_text("/proc/self/status");
    ASSERT_TRUE(status);
    const std::size_t at = status->find("CapEff:");
    ASSERT_NE(at, std::string::npos);
    const unsigned long long held = std::stoull(status->substr(at + 7), nullptr, 16);
    EXPECT_EQ(abilities->find("CAP_SYS_ADMIN")->present, (held >> 21 & 1U) != 0);
    EXPECT_EQ(abilities->find("CAP_SYS_RESOURCE")->present, (held >> 24 & 1U) != 0);
    EXPECT_EQ(abilities->find("CAP_CHECKPOINT_RESTORE")->present, (held >> 40 & 1U) != 0);
    const Result<std::string> maps = read_text("/proc/self/maps");
    ASSERT_TRUE(maps);
    EXPECT_EQ(abilities->find("vdso")->present, maps->find("[vdso]") != std::string::npos);
    EXPECT_EQ(
        abilities->find("time-namespaces")->present && !fs::exists("/proc/self/timens_offsets"),
        false);
}

TEST(X86Level, CountsWholeLevelsOnly) {
    std::vector<std::string> features = {"cmov", "cx8",     "fpu", "fxsr",
                                         "mmx",  "syscall", "sse", "sse2"};
    EXPECT_EQ(x86_level({}), 0);
    EXPECT_EQ(x86_level(features), 1);
    features.insert(features.end(), {"avx", "avx2", "cx16", "lahf_lm", "popcnt", "pni", "sse4_1"});
    EXPECT_EQ(x86_level(features), 1);
    features.insert(features.end(), {"sse4_2", "ssse3"});
    EXPECT_EQ(x86_level(features), 2);
}

}  // namespace
}  // namespace ppdsm
