// Goal: a checkpoint is shown as what it is. Method: dump a tree whose parts are known, read the
// images, compare with what the tree wrote down about itself.
#include "criu-glue/images/process_image.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "criu-glue/images/dump_statistics.h"
#include "tests/unit/images/real_dump.h"

namespace ppdsm {
namespace {

class ProcessImages : public testing::Test {
protected:
    void SetUp() override {
        const std::string missing = missing_for_real_dumps();
        if (!missing.empty()) GTEST_SKIP() << "SKIPPED, missing: " << missing;
        const Status made = dump_.make(false);
        ASSERT_TRUE(made) << made.error().message();
        source_ = std::make_unique<DirectorySource>(dump_.before());
        Result<ProcessTree> tree = read_process_tree(*source_);
        ASSERT_TRUE(tree) << tree.error().message();
        tree_ = *std::move(tree);
        root_ = tree_.find(dump_.number("root_pid"));
        ASSERT_NE(root_, nullptr);
    }

    const Mapping& mapping_at(const std::string& fact) const {
        static const Mapping kNone;
        const std::uint64_t address = dump_.fact(fact);
        for (const Mapping& mapping : root_->mappings) {
            if (mapping.start <= address && address < mapping.end) return mapping;
        }
        ADD_FAILURE() << "no mapping at " << fact;
        return kNone;
    }

    const Descriptor& descriptor_of(const ProcessImage& process, const std::string& fact) const {
        static const Descriptor kNone;
        for (const Descriptor& descriptor : process.descriptors) {
            if (descriptor.fd == dump_.fact(fact)) return descriptor;
        }
        ADD_FAILURE() << "no descriptor " << fact;
        return kNone;
    }
    const Descriptor& descriptor_of(const std::string& fact) const {
        return descriptor_of(*root_, fact);
    }

    RealDump dump_;
    std::unique_ptr<DirectorySource> source_;
    ProcessTree tree_;
    const ProcessImage* root_ = nullptr;
};

TEST_F(ProcessImages, AreShownAsTheTreeThatWasDumped) {
    ASSERT_EQ(tree_.processes.size(), 4U);
    EXPECT_EQ(root_->comm, "subject-root");
    EXPECT_EQ(root_->state, ProcessState::kRunning);
    EXPECT_EQ(root_->ppid, 0U);
    EXPECT_EQ(root_->pgid, root_->pid);
    EXPECT_EQ(root_->sid, root_->pid);
    EXPECT_EQ(root_->exe, std::filesystem::canonical(PPDSM_DUMP_SUBJECT).string());
    EXPECT_EQ(root_->cwd, std::filesystem::canonical(dump_.files()).string());
    EXPECT_EQ(root_->root, "/");
    EXPECT_EQ(root_->arguments,
              (std::vector<std::string>{PPDSM_DUMP_SUBJECT, dump_.files().string()}));
    ASSERT_EQ(root_->threads.size(), 3U);
    EXPECT_EQ(root_->threads[0].tid, root_->pid);
    EXPECT_EQ(root_->threads[1].comm, "subject-thread");
    EXPECT_EQ(root_->threads[2].comm, "subject-thread");

    const ProcessImage* reader = tree_.find(dump_.number("reader_pid"));
    ASSERT_NE(reader, nullptr);
    EXPECT_EQ(reader->comm, "subject-reader");
    EXPECT_EQ(reader->ppid, root_->pid);
    const ProcessImage* stopped = tree_.find(dump_.number("stopped_pid"));
    ASSERT_NE(stopped, nullptr);
    EXPECT_EQ(stopped->state, ProcessState::kStopped);
    const ProcessImage* zombie = tree_.find(dump_.number("zombie_pid"));
    ASSERT_NE(zombie, nullptr);
    EXPECT_EQ(zombie->state, ProcessState::kZombie);
    EXPECT_EQ(WEXITSTATUS(static_cast<int>(zombie->exit_status)), 3);
    EXPECT_TRUE(zombie->mappings.empty());

    EXPECT_EQ(tree_.totals.processes, 4U);
    EXPECT_EQ(tree_.totals.threads, 6U);
    EXPECT_GT(tree_.totals.image_bytes, tree_.totals.page_bytes);
#ifdef __x86_64__
    EXPECT_EQ(tree_.machine, "x86_64");
#endif
}

TEST_F(ProcessImages, SayWhatIsMapped) {
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const Mapping& memory = mapping_at("private");
    EXPECT_EQ(memory.start, dump_.fact("private"));
    EXPECT_EQ(memory.size_bytes(), 64 * page);
    EXPECT_EQ(memory.kind, MappingKind::kAnonymous);
    EXPECT_EQ(memory.protection, "rw-p");
    EXPECT_EQ(memory.flags, "MAP_PRIVATE|MAP_ANONYMOUS");
    EXPECT_EQ(memory.image_bytes, 32 * page) << "only what was touched";

    EXPECT_EQ(mapping_at("heap").kind, MappingKind::kHeap);
    EXPECT_EQ(mapping_at("heap").name, "[heap]");
    EXPECT_EQ(mapping_at("stack").kind, MappingKind::kStack);
    EXPECT_EQ(mapping_at("stack").name, "[stack]");

    const Mapping& shared = mapping_at("shared");
    EXPECT_EQ(shared.kind, MappingKind::kSharedAnonymous);
    EXPECT_EQ(shared.protection, "rw-s");
    EXPECT_EQ(shared.image_bytes, 2 * page);

    const std::string regular = (std::filesystem::canonical(dump_.files()) / "regular").string();
    const Mapping& file_private = mapping_at("file_private");
    EXPECT_EQ(file_private.kind, MappingKind::kFile);
    EXPECT_EQ(file_private.name, regular);
    EXPECT_EQ(file_private.image_bytes, page) << "only the page that is no longer the file's";
    const Mapping& file_shared = mapping_at("file_shared");
    EXPECT_EQ(file_shared.name, regular);
    EXPECT_EQ(file_shared.offset_bytes, page);
    EXPECT_EQ(file_shared.protection, "rw-s");
    EXPECT_EQ(file_shared.image_bytes, 0U);

    const Mapping& memfd = mapping_at("memfd_mapping");
    EXPECT_EQ(memfd.kind, MappingKind::kMemfd);
    EXPECT_EQ(memfd.name, "memfd:subject-memfd");
    EXPECT_EQ(memfd.offset_bytes, page);
    EXPECT_EQ(memfd.image_bytes, 2 * page);
}

TEST_F(ProcessImages, SayWhatIsOpen) {
    const Descriptor& regular = descriptor_of("regular_fd");
    EXPECT_EQ(regular.kind, DescriptorKind::kFile);
    EXPECT_EQ(regular.description,
              (std::filesystem::canonical(dump_.files()) / "regular").string());
    EXPECT_EQ(regular.flags, "O_RDWR|O_APPEND");
    EXPECT_EQ(regular.position, 1234U);
    EXPECT_TRUE(regular.close_on_exec);
    EXPECT_FALSE(regular.deleted);

    const Descriptor& deleted = descriptor_of("deleted_fd");
    EXPECT_TRUE(deleted.deleted);
    EXPECT_EQ(deleted.position, 7U);
    EXPECT_FALSE(deleted.close_on_exec);
    ASSERT_EQ(tree_.deleted_files.size(), 1U);
    EXPECT_EQ(tree_.deleted_files[0].path, deleted.description);
    EXPECT_EQ(tree_.deleted_files[0].size_bytes, 15U);

    const Descriptor& memfd = descriptor_of("memfd_fd");
    EXPECT_EQ(memfd.kind, DescriptorKind::kMemfd);
    EXPECT_EQ(memfd.description, "memfd:subject-memfd");
    EXPECT_EQ(descriptor_of("eventfd_fd").kind, DescriptorKind::kEventfd);
    EXPECT_EQ(descriptor_of("eventfd_fd").state, "counter 7");
    EXPECT_EQ(descriptor_of("epoll_fd").kind, DescriptorKind::kEpoll);
    EXPECT_EQ(descriptor_of("epoll_fd").description,
              "watches fd " + std::to_string(dump_.fact("eventfd_fd")));
    const Descriptor& timer = descriptor_of("timerfd_fd");
    EXPECT_EQ(timer.kind, DescriptorKind::kTimerfd);
    EXPECT_EQ(timer.description, "CLOCK_MONOTONIC, every 7200.000000000 s");
    ASSERT_TRUE(timer.expires_in_ns);
    EXPECT_LE(*timer.expires_in_ns, 36'000'000'000'000U);
    EXPECT_EQ(descriptor_of("signalfd_fd").kind, DescriptorKind::kSignalfd);
    EXPECT_EQ(descriptor_of("signalfd_fd").description, "signals HUP USR2");
    EXPECT_EQ(root_->descriptors[0].kind, DescriptorKind::kDevice);
    EXPECT_EQ(root_->descriptors[0].description, "/dev/null");
}

TEST_F(ProcessImages, SayWhoHoldsTheOtherEnd) {
    const ProcessImage* reader = tree_.find(dump_.number("reader_pid"));
    ASSERT_NE(reader, nullptr);
    const std::string reader_pid = std::to_string(reader->pid);
    EXPECT_EQ(descriptor_of("pipe_write_fd").description,
              "write end, read by fd " + std::to_string(dump_.fact("pipe_read_fd")) +
                  " of process " + reader_pid);
    EXPECT_EQ(descriptor_of("socket_fd").kind, DescriptorKind::kUnixSocket);
    EXPECT_EQ(descriptor_of("socket_fd").description,
              "stream, connected to fd " + std::to_string(dump_.fact("peer_socket_fd")) +
                  " of process " + reader_pid);
    const Descriptor& read_end = descriptor_of(*reader, "pipe_read_fd");
    EXPECT_EQ(read_end.kind, DescriptorKind::kPipe);
    EXPECT_NE(read_end.description.find("process " + std::to_string(root_->pid)),
              std::string::npos);
    ASSERT_EQ(tree_.pipes.size(), 1U);
    EXPECT_EQ(tree_.pipes[0].id, read_end.pipe_id);
    EXPECT_EQ(tree_.pipes[0].buffered_bytes, std::string("in the pipe").size());
    ASSERT_EQ(tree_.pipes[0].readers.size(), 1U);
    EXPECT_EQ(tree_.pipes[0].readers[0].pid, reader->pid);
    EXPECT_EQ(tree_.pipes[0].writers.size(), 2U) << "root and the stopped child";
}

TEST_F(ProcessImages, ComeWithStatisticsThatAgree) {
    const Result<Bytes> bytes = source_->load("stats-dump");
    ASSERT_TRUE(bytes);
    const Result<DumpStatistics> statistics = read_dump_statistics(*bytes);
    ASSERT_TRUE(statistics) << statistics.error().message();
    EXPECT_GT(statistics->frozen_us, 0U);
    EXPECT_GT(statistics->pages_scanned, 0U);
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    EXPECT_EQ((statistics->pages_written + statistics->shared_pages_written) * page,
              tree_.totals.page_bytes);
}

TEST(NoImages, IsNotFound) {
    DirectorySource nothing("/nonexistent/images");
    const Result<ProcessTree> tree = read_process_tree(nothing);
    ASSERT_FALSE(tree);
    EXPECT_EQ(tree.error().code(), Code::kNotFound);
    EXPECT_NE(tree.error().message().find("inventory.img"), std::string::npos);
}

}  // namespace
}  // namespace ppdsm
