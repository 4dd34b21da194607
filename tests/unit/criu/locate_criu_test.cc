// Goal: the CRIU that is chosen works here, a demanded one is never replaced silently, and the kept
// answer is used exactly as long as nothing it depends on has changed. Method: programs that
// pretend to be CRIU, and count how often they are asked.
#include "criu-glue/criu/locate_criu.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "criu-glue/criu/namespace_probes.h"
#include "dsm/base/files.h"

namespace ppdsm {
namespace {

namespace fs = std::filesystem;

class LocateCriuTest : public ::testing::Test {
protected:
    LocateCriuTest() {
        std::string pattern = fs::temp_directory_path() / "ppdsm-locate-XXXXXX";
        directory_ = ::mkdtemp(pattern.data());
        state_ = directory_ / "state";
        fake_ = directory_ / "criu";
    }
    void SetUp() override {
        if (::geteuid() == 0) return;
        // Others than root have CRIU checked in namespaces of their own.
        const ProbeResult namespaces = probe_sandbox_namespaces();
        if (!namespaces.present) GTEST_SKIP() << "no namespaces: " << namespaces.detail;
    }
    ~LocateCriuTest() override {
        ::unsetenv("PPDSM_CRIU");
        fs::remove_all(directory_);
    }

    /// A CRIU that says `version` and whose check ends with `check_exit`.
    void write_fake(const std::string& version, int check_exit) {
        std::ofstream script(fake_);
        script << "#!/bin/sh\n"
               << "case $1 in\n"
               << "--version) echo 'Version: " << version << "'; exit 0;;\n"
               << "check) echo x >>" << asked_file().string() << "\n"
               << "  echo 'Error (criu/vdso.c:381): vdso: bounds'; exit " << check_exit << ";;\n"
               << "esac\nexit 9\n";
        script.close();
        fs::permissions(fake_, fs::perms::owner_all);
        ::setenv("PPDSM_CRIU", fake_.c_str(), 1);
    }
    [[nodiscard]] fs::path asked_file() const { return directory_ / "asked"; }
    /// How often `check` ran.
    [[nodiscard]] std::size_t times_asked() const {
        const Result<std::string> text = read_text(asked_file());
        return text ? text->size() / 2 : 0;
    }

    fs::path directory_;
    fs::path state_;
    fs::path fake_;
};

TEST(CriuVersion, IsRead) {
    const auto number = [](const char* output) {
        const Result<CriuVersion> version = parse_criu_version(output);
        return version ? version->number : -1;
    };
    EXPECT_EQ(number("Version: 4.1.1\n"), 40101);
    EXPECT_EQ(number("Version: 4.2\nGitID: v4.2\n"), 40200);
    EXPECT_EQ(number("Warn: something\nVersion: 3.17.1\n"), 31701);
    EXPECT_EQ(number("Version: 5.0-rc1\n"), 50000);
    EXPECT_EQ(number("Version: \n"), -1);
    EXPECT_EQ(number("Version: 4.100.1\n"), 40000);
    EXPECT_EQ(number("criu 4\n"), -1);
    EXPECT_EQ(number(""), -1);
}

TEST_F(LocateCriuTest, TakesTheDemandedOne) {
    write_fake("4.7.3", 0);
    const Result<CriuInstallation> found = locate_criu({});
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_EQ(found->path, fake_);
    EXPECT_EQ(found->command, std::vector<std::string>{fake_.string()});
    EXPECT_EQ(found->version, 40703);
    EXPECT_EQ(found->version_text, "4.7.3");
}

TEST_F(LocateCriuTest, NamesTheReasonWhenTheDemandedOneDoesNotWork) {
    write_fake("3.17.1", 1);
    const Result<CriuInstallation> found = locate_criu(state_);
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code(), Code::kUnsupported);
    EXPECT_NE(found.error().message().find(fake_.string()), std::string::npos);
    EXPECT_NE(found.error().message().find("3.17.1"), std::string::npos);
    EXPECT_NE(found.error().message().find("install-criu.sh"), std::string::npos);
}

TEST_F(LocateCriuTest, RefusesADemandedPathThatIsNoProgram) {
    ::setenv("PPDSM_CRIU", (directory_ / "absent").c_str(), 1);
    const Result<CriuInstallation> found = locate_criu({});
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code(), Code::kNotFound);
    EXPECT_NE(found.error().message().find("PPDSM_CRIU="), std::string::npos);
}

TEST_F(LocateCriuTest, AsksOnceAndKeepsTheAnswer) {
    write_fake("4.1.1", 0);
    const Result<CriuInstallation> first = locate_criu(state_);
    ASSERT_TRUE(first) << first.error().message();
    const std::size_t asked = times_asked();
    ASSERT_GT(asked, 0U);
    const Result<CriuInstallation> second = locate_criu(state_);
    ASSERT_TRUE(second) << second.error().message();
    EXPECT_EQ(times_asked(), asked);
    EXPECT_EQ(second->path, first->path);
    EXPECT_EQ(second->command, first->command);
    EXPECT_EQ(second->version, first->version);
    EXPECT_EQ(second->version_text, first->version_text);
    EXPECT_EQ(second->unprivileged, first->unprivileged);
}

TEST_F(LocateCriuTest, AsksAgainWhenCriuHasChanged) {
    write_fake("4.1.1", 0);
    ASSERT_TRUE(locate_criu(state_));
    const std::size_t asked = times_asked();
    write_fake("4.10.1", 0);
    const Result<CriuInstallation> found = locate_criu(state_);
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_GT(times_asked(), asked);
    EXPECT_EQ(found->version, 41001);
}

TEST_F(LocateCriuTest, DoesNotKeepAFailure) {
    write_fake("4.1.1", 1);
    ASSERT_FALSE(locate_criu(state_));
    const std::size_t asked = times_asked();
    ASSERT_FALSE(locate_criu(state_));
    EXPECT_GT(times_asked(), asked);
}

TEST_F(LocateCriuTest, IgnoresADamagedAnswer) {
    write_fake("4.1.1", 0);
    ASSERT_TRUE(locate_criu(state_));
    const Result<std::string> kept = read_text(state_ / "criu-found");
    ASSERT_TRUE(kept) << kept.error().message();
    for (const std::size_t length : {std::size_t{0}, kept->size() / 2, kept->size() - 1}) {
        ASSERT_TRUE(replace_file(state_ / "criu-found", as_bytes(kept->substr(0, length))));
        const Result<CriuInstallation> found = locate_criu(state_);
        ASSERT_TRUE(found) << found.error().message();
        EXPECT_EQ(found->command, std::vector<std::string>{fake_.string()});
    }
}

TEST_F(LocateCriuTest, WorksWithoutAWritableStateDirectory) {
    write_fake("4.1.1", 0);
    ASSERT_TRUE(replace_file(state_, as_bytes("a file, not a directory")));
    const Result<CriuInstallation> found = locate_criu(state_);
    EXPECT_TRUE(found) << found.error().message();
}

TEST_F(LocateCriuTest, UsesTheCommandFileOfThePrefix) {
    write_fake("4.1.1", 0);
    fs::create_directory(directory_ / "real");
    const fs::path real = directory_ / "real" / "criu";
    fs::copy_file(fake_, real);
    const std::string command = "/usr/bin/env\n" + real.string() + "\n";
    ASSERT_TRUE(replace_file(directory_ / "command", as_bytes(command)));
    const Result<CriuInstallation> found = locate_criu({});
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_EQ(found->command, (std::vector<std::string>{"/usr/bin/env", real.string()}));
    EXPECT_EQ(found->path, fake_);
}

TEST_F(LocateCriuTest, IgnoresACommandOfAnotherKind) {
    write_fake("4.1.1", 0);
    ASSERT_TRUE(replace_file(directory_ / "command", as_bytes("#!/bin/sh\nexec criu\n")));
    EXPECT_EQ(criu_command(fake_), std::vector<std::string>{fake_.string()});
}

TEST_F(LocateCriuTest, RefusesAProgramThatIsNoCriu) {
    write_fake("not a version", 0);
    const Result<CriuInstallation> found = locate_criu({});
    ASSERT_FALSE(found);
    EXPECT_NE(found.error().message().find("is no version of CRIU"), std::string::npos);
}

}  // namespace
}  // namespace ppdsm
