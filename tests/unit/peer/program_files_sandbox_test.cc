// Goal: ordinary programs run on a peer that has none of their files, are dumped and restored
// there, and are told what could not be had. Method: real executors in mount namespaces in which
// the owner's tree, the language's library or the compiler are hidden; broker, cache and owner on
// the test's loop. Needs root, /dev/fuse and CRIU.
#include <fcntl.h>

#include "dsm/base/wall_clock.h"
#include "runtime/peer/vc_record.h"
#include "tests/unit/peer/program_files_worker.h"

namespace ppdsm {
namespace {

using Json = nlohmann::json;

class RemoteProgramTest : public ProgramFilesTest {
protected:
    void SetUp() override {
        if (::geteuid() != 0 || ::access("/dev/fuse", R_OK | W_OK) != 0) {
            GTEST_SKIP() << "needs root and /dev/fuse";
        }
        ProgramFilesTest::SetUp();
        ::setenv("PPDSM_HOME", (directory() / "home").c_str(), 1);
        home_ = Home::open().value();
        fs::create_directories(tree() / "work");
        ::chmod(directory().c_str(), 0755);
    }
    void TearDown() override {
        worker_.reset();
        ::unsetenv("PPDSM_HOME");
        if (!directory().empty()) ProgramFilesTest::TearDown();
    }

    /// The VC, its plan, and an owner of whatever the plan shows.
    void submit(const std::vector<std::string>& arguments, std::int64_t checkpoint_every_ms = -1) {
        paths_ = home_->create_vc().value();
        VcRecord record;
        record.id = paths_.id();
        record.program = arguments.front();
        record.arguments = arguments;
        record.environment = {"PATH=/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE=1"};
        record.working_directory = path("work");
        record.created_unix_ms = unix_now_ms();
        record.checkpoint_every_ms = checkpoint_every_ms;
        record.exposures = exposures_;
        record.uid = record.gid = uid_;
        ASSERT_TRUE(write_record(paths_, record));
        plan_ = plan_view(record, *home_).value();
        std::ofstream(directory() / "plan") << encode_plan(plan_);
        owner_ = FileOwner::open(loop_, plan_, hashes()).value();
        source_ = std::make_unique<HookedSource>(*owner_);
        cache_ = cache();
        broker_ =
            FileBroker::open(loop_, *cache_, *source_,
                             {plan_, "the-owner", directory() / "catalog", "a program", false})
                .value();
    }
    Worker& start(std::vector<std::string> hidden, std::uint64_t kill_after = 0) {
        hidden.push_back(tree());
        std::erase_if(hidden, [](const std::string& directory) { return !fs::exists(directory); });
        worker_ = std::make_unique<Worker>(
            loop_, broker_.get(),
            Worker::Run{paths_, directory() / "plan", std::move(hidden), kill_after, uid_});
        return *worker_;
    }
    static void expect_success(const Json& result, const std::string& output) {
        ASSERT_TRUE(result.is_object()) << "the executor failed";
        EXPECT_EQ(result["exit_code"], 0) << result.dump(1);
        EXPECT_EQ(result["failure"], "") << result.dump(1);
        EXPECT_EQ(result["output"], output) << result.dump(1);
        EXPECT_TRUE(result["unfetched"].empty()) << result.dump(1);
    }

    std::optional<Home> home_;
    VcPaths paths_;
    ViewPlan plan_;
    std::vector<Exposure> exposures_;
    std::uint32_t uid_ = 0;
    std::unique_ptr<FileOwner> owner_;
    std::unique_ptr<HookedSource> source_;
    std::unique_ptr<FileCache> cache_;
    std::unique_ptr<FileBroker> broker_;
    std::unique_ptr<Worker> worker_;
};

constexpr const char* kPython = "/usr/bin/python3";
const std::vector<std::string> kPythonLibraries = {"/usr/lib/python3.11", "/usr/lib/python3",
                                                   "/usr/lib/python3.13"};

TEST_F(RemoteProgramTest, PythonRunsWithItsLibrary) {
    write("work/data.txt", "of its owner");
    submit({kPython, "-c",
            "import json, asyncio, decimal, email.message, xml.dom.minidom\n"
            "print(json.dumps([str(decimal.Decimal('0.1') * 3), open('data.txt').read()]))"});
    const Json result = start(kPythonLibraries).result();
    expect_success(result, "[\"0.3\", \"of its owner\"]\n");
}

TEST_F(RemoteProgramTest, ACompilerCompilesAndItsProgramRuns) {
    write("work/hello.c",
          "#include <stdio.h>\n#include \"own.h\"\nint main(void) { puts(TEXT); return 0; }\n");
    write("work/own.h", "#define TEXT \"compiled elsewhere\"\n");
    submit({"/bin/sh", "-c", "gcc -O1 hello.c -o hello && ./hello"});
    const Json result = start({"/usr/lib/gcc", "/usr/include"}).result();
    expect_success(result, "compiled elsewhere\n");
}

TEST_F(RemoteProgramTest, ABinaryFindsThePrivateLibraryBesideIt) {
    write("app/part.c", "const char* text(void) { return \"from the library\"; }\n");
    write("app/main.c",
          "#include <stdio.h>\nconst char* text(void);\nint main(void) { puts(text()); }\n");
    const std::string build = "cd " + path("app") +
                              " && mkdir lib && cc -shared -fPIC part.c -o lib/libpart.so"
                              " && cc main.c -Llib -lpart -Wl,-rpath,'$ORIGIN/lib' -o app";
    ASSERT_EQ(std::system(build.c_str()), 0);
    submit({path("app/app")});
    const Json result = start({}).result();
    expect_success(result, "from the library\n");
}

TEST_F(RemoteProgramTest, NothingOfTheWorkersIsSeen) {
    write("work/own", "text");
    submit({"/bin/sh", "-c",
            "cat /etc/shadow /root/.profile " + (directory() / "plan").string() +
                " 2>&1 | grep -vi 'no such file'; ls " + directory().string() +
                "; ls work /etc/shadow 2>/dev/null; cat own"});
    const Json result = start({}).result();
    expect_success(result, "tree\ntext");
    EXPECT_TRUE(result["not_exposed"].empty()) << result.dump(1);
}

TEST_F(RemoteProgramTest, WhatItWroteIsAboveWhatTheOwnerHas) {
    write("work/file", "of the owner\n");
    write("work/inner/kept", "kept\n");
    ASSERT_EQ(::chmod(path("work").c_str(), 0750), 0);
    submit(
        {"/bin/sh", "-c",
         "echo more >> file && cat file && rm -r inner && ls && stat -c %a . && mkdir inner && ls "
         "inner"});
    const Json result = start({}).result();
    expect_success(result, "of the owner\nmore\nfile\n750\n");
    EXPECT_TRUE(fs::exists(path("work/inner/kept"))) << "home is not touched from there";
}

TEST_F(RemoteProgramTest, AFileThatChangedBeforeItWasFetchedIsAnErrorAndNamed) {
    write("work/data/early", "before");
    write("work/data/other", "other");
    submit({"/bin/sh", "-c", "ls data; cat data/early; cat data/other"});
    source_->on_listed = [&](const std::string& listed) {
        if (listed == path("work/data")) write("work/data/early", "after!");
    };
    const Json result = start({}).result();
    ASSERT_TRUE(result.is_object());
    EXPECT_EQ(result["output"].get<std::string>().substr(0, 12), "early\nother\n")
        << result.dump(1);
    EXPECT_NE(result["output"].get<std::string>().find("Input/output error"), std::string::npos);
    EXPECT_TRUE(result["output"].get<std::string>().ends_with("other"));
    ASSERT_EQ(result["unfetched"].size(), 1U) << result.dump(1);
    EXPECT_EQ(result["unfetched"][0][0], path("work/data/early"));
    EXPECT_NE(result["unfetched"][0][1].get<std::string>().find("changed at home"),
              std::string::npos);
}

/// Counts slowly, with a library file open and half read, and imports more when it is done.
constexpr const char* kCounting =
    "import json, time\n"
    "library = open(json.__file__)\n"
    "library.read(100)\n"
    "for i in range(20):\n"
    "    print(i, len(library.read(50)), flush=True)\n"
    "    time.sleep(0.1)\n"
    "import decimal, email.message, xml.dom.minidom\n"
    "print(decimal.Decimal('0.1') * 3, open('data.txt').read())\n";

std::string counted() {
    std::string text;
    for (int i = 0; i < 20; ++i) text += std::to_string(i) + " 50\n";
    return text + "0.3 of its owner\n";
}

TEST_F(RemoteProgramTest, IsDumpedAndRestoredOnAFreshMount) {
    write("work/data.txt", "of its owner");
    submit({kPython, "-c", kCounting}, 300);
    const Json result = start(kPythonLibraries, 2).result();
    if (result.is_object() &&
        result["checkpoint_failure"].get<std::string>().find("CRIU") != std::string::npos) {
        GTEST_SKIP() << result["checkpoint_failure"];
    }
    expect_success(result, counted());
    EXPECT_GE(result["restored"], 1);
}

TEST_F(RemoteProgramTest, ChangesAtHomeDoNotReachARestoredProgram) {
    write("work/data.txt", "of its owner");
    submit({kPython, "-c", kCounting}, 300);
    ASSERT_TRUE(await<Result<FileBroker::Exposures>>(
        loop_, [&](auto done) { broker_->complete_exposures({}, done); }));
    write("work/data.txt", "changed at home");
    write("work/another", "new at home");
    const Json result = start(kPythonLibraries, 2).result();
    expect_success(result, counted());
    EXPECT_GE(result["restored"], 1);
}

TEST_F(RemoteProgramTest, ADeadFileServerIsADeadSandboxAndIsRecovered) {
    write("work/data.txt", "of its owner");
    submit({kPython, "-c", kCounting}, 300);
    Worker& worker = start(kPythonLibraries);
    pid_t killed = 0;
    Timer timer(loop_, [&] {
        // When there is something to go back to.
        if (killed != 0 || !fs::exists(paths_.manifest(1))) return;
        killed = worker.find("ppdsm-files");
        if (killed > 0) ::kill(killed, SIGKILL);
    });
    timer.start(50, 50);
    const Json result = worker.result();
    timer.stop();
    EXPECT_GT(killed, 0);
    expect_success(result, counted());
    EXPECT_GE(result["restored"], 1);
}

TEST_F(RemoteProgramTest, AnOrdinaryUsersProgramRunsToo) {
    uid_ = 65534;
    write("work/data.txt", "of its owner");
    ASSERT_EQ(::chown(path("work").c_str(), uid_, uid_), 0);
    submit({kPython, "-c",
            "import json\nopen('new', 'w').write('x')\n"
            "print(open('data.txt').read(), len(json.dumps([1])))"});
    for (const auto& entry : fs::recursive_directory_iterator(directory() / "home")) {
        ::lchown(entry.path().c_str(), uid_, uid_);
    }
    ::chown((directory() / "home").c_str(), uid_, uid_);
    const Json result = start(kPythonLibraries).result();
    expect_success(result, "of its owner 3\n");
}

}  // namespace
}  // namespace ppdsm
