// Merges an overlay's upper directory into the owner's tree. The upper directory was written by a
// program that nobody trusts and the tree may be in use: each step goes from one open directory to
// a name in it, so that no symlink on either side leads anywhere else.
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "criu-glue/files/copy_content.h"
#include "criu-glue/files/home_tree.h"
#include "criu-glue/files/layer.h"
#include "criu-glue/files/node_metadata.h"
#include "criu-glue/files/tree_access.h"

namespace ppdsm {

HomeBaseline HomeBaseline::at(std::int64_t started_unix_ns) {
    HomeBaseline baseline;
    baseline.started_unix_ns_ = started_unix_ns;
    return baseline;
}

namespace {

constexpr int kConflictNames = 10'000;

bool is_whiteout(const struct stat& status) {
    return S_ISCHR(status.st_mode) && status.st_rdev == makedev(0, 0);
}

bool is_opaque(const Attributes& attributes) {
    const std::string* value = find_overlay_attribute(attributes, "opaque");
    return value != nullptr && *value == "y";
}

std::string describe_type(const struct stat& status) {
    if (S_ISSOCK(status.st_mode)) return "a socket";
    if (S_ISBLK(status.st_mode) || S_ISCHR(status.st_mode)) return "a device";
    return "of a type that is not copied";
}

/// A directory of the upper tree over its counterpart at home.
struct Pair {
    int upper = -1;
    int home = -1;
    std::string path;     ///< Of the home directory, relative to the root.
    bool opaque = false;  ///< Nothing of home's shines through.
    bool aside = false;   ///< Home's side is a fresh copy beside a conflict: nothing is reported.
    int depth = 0;
};

struct Source {
    const char* name;
    struct stat status;
    Attributes attributes;  ///< Without overlay's own.
};

class LayerMerge {
public:
    LayerMerge(HomeTree& home, int home_root, ApplyReport& report)
        : home_(home), home_root_(home_root), report_(report) {}

    Status merge(const Pair& pair);

private:
    struct FirstName {
        std::string path;
        ino_t home_inode = 0;
        std::vector<std::string> names;
    };
    struct Target {
        enum class State { kFree, kOurs, kSame };  ///< kOurs: of an earlier generation.
        std::string name;
        State state;
    };

    Status merge_entry(const Pair& pair, const std::string& name);
    Status merge_whiteout(const Pair& pair, const char* name, const std::string& path);
    Status merge_directory(const Pair& pair, const Source& source, const std::string& path);
    Status enter_directory(const Pair& pair, const Source& source, const char* home_name,
                           const std::string& path, bool opaque, bool aside);
    Status put_directory_aside(const Pair& pair, const Source& source, const std::string& path);
    Status merge_leaf(const Pair& pair, const Source& source, const std::string& path);
    Result<bool> install(const Pair& pair, const std::string& pending, const std::string& target,
                         const std::optional<struct stat>& expected);
    Status record(const Pair& pair, const Source& source, const std::string& path,
                  const std::string& home_name);

    Result<bool> already_there(const Pair& pair, const Source& source, const char* home_name,
                               const struct stat& home);
    Result<bool> same_content(int upper, const Source& source, int home, const char* home_name,
                              const struct stat& status);
    Result<bool> same_tree(int upper, int home, int depth);
    Status build(const Pair& pair, const Source& source, const std::string& pending,
                 const std::string& path);
    Status build_file(const Pair& pair, const Source& source, const std::string& pending,
                      const std::string& path);
    bool link_first_name(const Pair& pair, const Source& source, const std::string& pending);
    Result<Target> conflict_name(const Pair& pair, const Source& source, bool directory);
    Status write_node(const OwnedFd& fd, const Source& source, const std::string& path);

    FirstName* first_name(const Pair& pair, const Source& source) {
        if (pair.aside || source.status.st_nlink < 2) return nullptr;
        const auto found = links_.find({source.status.st_dev, source.status.st_ino});
        return found == links_.end() ? nullptr : &found->second;
    }

    HomeTree& home_;
    int home_root_;
    ApplyReport& report_;
    std::map<std::pair<dev_t, ino_t>, FirstName> links_;
};

Status LayerMerge::merge(const Pair& pair) {
    if (pair.depth >= kMaxTreeDepth) return fail(too_deep(pair.path));
    PPDSM_TRY(home_.remove_pending(pair.home));
    PPDSM_ASSIGN(const std::vector<std::string> names, sorted_names(pair.upper));
    if (pair.opaque) {
        PPDSM_ASSIGN(const std::vector<std::string> there, sorted_names(pair.home));
        for (const std::string& name : there) {
            if (std::binary_search(names.begin(), names.end(), name)) continue;
            const std::string path = join_path(pair.path, name);
            PPDSM_ASSIGN(const auto status, look_at(pair.home, name.c_str()));
            // What this run put beside a conflict stays as long as the conflict may.
            if (name.find(kConflictMark) != std::string::npos && status && home_.touched(*status)) {
                continue;
            }
            PPDSM_ASSIGN(const bool gone,
                         home_.remove(pair.home, name.c_str(), path, HomeTree::Spare::kChanged));
            if (gone) report_.removed.push_back(path);
        }
    }
    for (const std::string& name : names) PPDSM_TRY(merge_entry(pair, name));
    return {};
}

Status LayerMerge::merge_entry(const Pair& pair, const std::string& name) {
    const std::string path = join_path(pair.path, name);
    const auto named = [&](Status status) -> Status {
        if (status) return {};
        const bool has_name = status.error().what().find(path) != std::string::npos;
        return has_name ? status : fail(status.error().within(path));
    };
    Source source{name.c_str(), {}, {}};
    PPDSM_ASSIGN(const auto status, look_at(pair.upper, name.c_str()));
    if (!status) return {};
    source.status = *status;
    if (is_whiteout(source.status)) return named(merge_whiteout(pair, name.c_str(), path));
    if (S_ISDIR(source.status.st_mode)) return named(merge_directory(pair, source, path));
    if (!S_ISREG(source.status.st_mode) && !S_ISLNK(source.status.st_mode) &&
        !S_ISFIFO(source.status.st_mode)) {
        report_.skipped.push_back(path + ": " + describe_type(source.status));
        return {};
    }
    auto attributes = read_attributes(pair.upper, name.c_str());
    if (!attributes) return fail(attributes.error().within(path));
    source.attributes = std::move(*attributes);
    std::erase_if(source.attributes, [](const auto& a) { return is_overlay_attribute(a.name); });
    return named(merge_leaf(pair, source, path));
}

Status LayerMerge::merge_whiteout(const Pair& pair, const char* name, const std::string& path) {
    PPDSM_ASSIGN(const bool gone, home_.remove(pair.home, name, path, HomeTree::Spare::kChanged));
    // Listed also when it was gone before, so that an apply after a kill reports the same.
    if (gone && !pair.aside) report_.removed.push_back(path);
    return {};
}

Status LayerMerge::merge_directory(const Pair& pair, const Source& found, const std::string& path) {
    Source source = found;
    PPDSM_ASSIGN(source.attributes, read_attributes(pair.upper, source.name));
    const bool opaque = pair.opaque || is_opaque(source.attributes);
    std::erase_if(source.attributes, [](const auto& a) { return is_overlay_attribute(a.name); });

    PPDSM_ASSIGN(const auto home, look_at(pair.home, source.name));
    if (home && !S_ISDIR(home->st_mode)) {
        if (!pair.aside && home_.changed(path, *home)) {
            return put_directory_aside(pair, source, path);
        }
        PPDSM_TRY(home_.remove(pair.home, source.name, path, HomeTree::Spare::kNothing));
    }
    if (!home || !S_ISDIR(home->st_mode)) {
        if (::mkdirat(pair.home, source.name, 0700) != 0) return fail_errno("make directory");
        home_.made_directory(path);
    } else if (::geteuid() != 0 && (home->st_mode & S_IRWXU) != S_IRWXU) {
        // Its final mode comes from the layer when its children are done.
        if (::fchmodat(pair.home, source.name, 0700, 0) != 0) return fail_errno("make writable");
    }
    return enter_directory(pair, source, source.name, path, opaque, pair.aside);
}

Status LayerMerge::enter_directory(const Pair& pair, const Source& source, const char* home_name,
                                   const std::string& path, bool opaque, bool aside) {
    PPDSM_ASSIGN(const OwnedFd upper, open_directory_at(pair.upper, source.name));
    PPDSM_ASSIGN(const OwnedFd home, open_directory_at(pair.home, home_name));
    PPDSM_TRY(merge({upper.get(), home.get(), path, opaque, aside, pair.depth + 1}));
    PPDSM_TRY(write_node(home, source, path));
    return sync_fd(home);
}

/// Home holds something of its own where the program made a directory.
Status LayerMerge::put_directory_aside(const Pair& pair, const Source& source,
                                       const std::string& path) {
    PPDSM_ASSIGN(const Target target, conflict_name(pair, source, true));
    const std::string target_path = join_path(pair.path, target.name);
    report_.conflicts.emplace_back(path, target_path);
    if (target.state == Target::State::kSame) return {};
    if (target.state == Target::State::kOurs) {
        PPDSM_TRY(enter_directory(pair, source, target.name.c_str(), target_path, true, false));
    } else {
        const std::string pending = home_.pending_name(target.name);
        if (::mkdirat(pair.home, pending.c_str(), 0700) != 0) return fail_errno("make directory");
        PPDSM_TRY(enter_directory(pair, source, pending.c_str(), target_path, true, true));
        if (::renameat2(pair.home, pending.c_str(), pair.home, target.name.c_str(),
                        RENAME_NOREPLACE) != 0) {
            return fail_errno("rename to " + target_path);
        }
    }
    PPDSM_ASSIGN(const auto left, look_at(pair.home, target.name.c_str()));
    if (left) home_.left(target_path, *left);
    return {};
}

Status LayerMerge::merge_leaf(const Pair& pair, const Source& source, const std::string& path) {
    PPDSM_ASSIGN(auto home, look_at(pair.home, source.name));
    std::string target = source.name;
    bool conflict = false;
    if (home && !S_ISDIR(home->st_mode)) {
        PPDSM_ASSIGN(const bool there, already_there(pair, source, source.name, *home));
        if (there) return record(pair, source, path, target);
        if (!pair.aside && home_.changed(path, *home)) {
            // Equal content is no conflict: our own write of an apply that was killed, mostly.
            PPDSM_ASSIGN(const bool same,
                         same_content(pair.upper, source, pair.home, source.name, *home));
            conflict = !same;
        }
    }
    const std::string pending = home_.pending_name(source.name);
    if (!conflict) {
        PPDSM_TRY(build(pair, source, pending, path));
        bool free = true;
        if (home && S_ISDIR(home->st_mode)) {
            PPDSM_ASSIGN(free,
                         home_.remove(pair.home, source.name, path, HomeTree::Spare::kChanged));
            home.reset();
        }
        if (free) {
            PPDSM_ASSIGN(const bool installed, install(pair, pending, target, home));
            if (installed) return record(pair, source, path, target);
        }
    }
    PPDSM_ASSIGN(const Target beside, conflict_name(pair, source, false));
    const std::string beside_path = join_path(pair.path, beside.name);
    report_.conflicts.emplace_back(path, beside_path);
    if (beside.state != Target::State::kSame) {
        if (conflict) PPDSM_TRY(build(pair, source, pending, path));
        if (::renameat(pair.home, pending.c_str(), pair.home, beside.name.c_str()) != 0) {
            return fail_errno("rename to " + beside_path);
        }
    }
    ::unlinkat(pair.home, pending.c_str(), 0);  // Not needed, or two names of one file.
    Pair quiet = pair;
    quiet.aside = true;
    return record(quiet, source, beside_path, beside.name);
}

/// False when home changed between our look and the rename: then the pending copy is still there.
Result<bool> LayerMerge::install(const Pair& pair, const std::string& pending,
                                 const std::string& target,
                                 const std::optional<struct stat>& expected) {
    if (!expected) {
        if (::renameat2(pair.home, pending.c_str(), pair.home, target.c_str(), RENAME_NOREPLACE) ==
            0) {
            return true;
        }
        if (errno == EEXIST) return false;
        if (errno != EINVAL && errno != ENOSYS) return fail_errno("rename");
    }
    PPDSM_ASSIGN(const auto now, look_at(pair.home, target.c_str()));
    const bool as_expected = expected
                                 ? now && now->st_ino == expected->st_ino &&
                                       nanoseconds(now->st_ctim) == nanoseconds(expected->st_ctim)
                                 : !now;
    if (!as_expected) return false;
    const OwnedFd replaced(::openat(pair.home, target.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (::renameat(pair.home, pending.c_str(), pair.home, target.c_str()) != 0) {
        return fail_errno("rename");
    }
    if (now) home_.name_taken(replaced, *now);
    return true;
}

Status LayerMerge::record(const Pair& pair, const Source& source, const std::string& path,
                          const std::string& home_name) {
    PPDSM_ASSIGN(const auto left, look_at(pair.home, home_name.c_str()));
    if (left) home_.left(path, *left);
    if (pair.aside) return {};
    report_.written.push_back(path);
    if (source.status.st_nlink < 2 || !left) return {};
    FirstName& first = links_[{source.status.st_dev, source.status.st_ino}];
    if (first.names.empty()) {
        first.path = path;
        first.home_inode = left->st_ino;
    }
    if (first.home_inode != left->st_ino) return {};
    // Each new name moves the ctime of all the names before.
    for (const std::string& name : first.names) home_.left(name, *left);
    first.names.push_back(path);
    return {};
}

Result<bool> LayerMerge::already_there(const Pair& pair, const Source& source,
                                       const char* home_name, const struct stat& home) {
    const FirstName* first = first_name(pair, source);
    if (first != nullptr) return first->home_inode == home.st_ino;
    const struct stat& ours = source.status;
    if (ours.st_mode != home.st_mode || ours.st_uid != home.st_uid || ours.st_gid != home.st_gid ||
        nanoseconds(ours.st_mtim) != nanoseconds(home.st_mtim)) {
        return false;
    }
    PPDSM_ASSIGN(const Attributes attributes, read_attributes(pair.home, home_name));
    if (attributes != source.attributes) return false;
    return same_content(pair.upper, source, pair.home, home_name, home);
}

Result<bool> LayerMerge::same_content(int upper, const Source& source, int home,
                                      const char* home_name, const struct stat& status) {
    if ((source.status.st_mode & S_IFMT) != (status.st_mode & S_IFMT)) return false;
    if (S_ISLNK(status.st_mode)) {
        PPDSM_ASSIGN(const std::string ours, read_link(upper, source.name));
        PPDSM_ASSIGN(const std::string theirs, read_link(home, home_name));
        return ours == theirs;
    }
    if (!S_ISREG(status.st_mode)) return true;
    if (source.status.st_size != status.st_size) return false;
    const OwnedFd ours = open_regular(upper, source.name);
    if (!ours.valid()) return fail_errno("open the program's version");
    const OwnedFd theirs = open_regular(home, home_name);
    if (!theirs.valid()) return fail_errno("open home's version");
    return same_bytes(ours, theirs);
}

/// Whether a directory put aside earlier is what we would put there now.
Result<bool> LayerMerge::same_tree(int upper, int home, int depth) {
    if (depth >= kMaxTreeDepth) return false;
    PPDSM_ASSIGN(const std::vector<std::string> names, sorted_names(upper));
    PPDSM_ASSIGN(const std::vector<std::string> there, sorted_names(home));
    std::size_t matched = 0;
    for (const std::string& name : names) {
        PPDSM_ASSIGN(const auto ours, look_at(upper, name.c_str()));
        if (!ours || is_whiteout(*ours) || S_ISSOCK(ours->st_mode) || S_ISCHR(ours->st_mode) ||
            S_ISBLK(ours->st_mode)) {
            continue;
        }
        PPDSM_ASSIGN(const auto theirs, look_at(home, name.c_str()));
        if (!theirs || theirs->st_mode != ours->st_mode) return false;
        bool same = false;
        if (S_ISDIR(ours->st_mode)) {
            PPDSM_ASSIGN(const OwnedFd inner, open_directory_at(upper, name.c_str()));
            PPDSM_ASSIGN(const OwnedFd home_inner, open_directory_at(home, name.c_str()));
            PPDSM_ASSIGN(same, same_tree(inner.get(), home_inner.get(), depth + 1));
        } else {
            const Source source{name.c_str(), *ours, {}};
            PPDSM_ASSIGN(same, same_content(upper, source, home, name.c_str(), *theirs));
        }
        if (!same) return false;
        ++matched;
    }
    return matched == there.size();
}

Status LayerMerge::build(const Pair& pair, const Source& source, const std::string& pending,
                         const std::string& path) {
    ::unlinkat(pair.home, pending.c_str(), 0);  // Of an attempt before, should there be one.
    if (link_first_name(pair, source, pending)) return {};
    if (S_ISREG(source.status.st_mode)) return build_file(pair, source, pending, path);
    if (S_ISLNK(source.status.st_mode)) {
        PPDSM_ASSIGN(const std::string target, read_link(pair.upper, source.name));
        if (::symlinkat(target.c_str(), pair.home, pending.c_str()) != 0) {
            return fail_errno("make a symlink");
        }
    } else if (::mkfifoat(pair.home, pending.c_str(), 0600) != 0) {
        return fail_errno("make a fifo");
    }
    PPDSM_ASSIGN(const OwnedFd node, pin_node(pair.home, pending.c_str()));
    return write_node(node, source, path);
}

Status LayerMerge::build_file(const Pair& pair, const Source& source, const std::string& pending,
                              const std::string& path) {
    const OwnedFd from = open_regular(pair.upper, source.name);
    if (!from.valid()) return fail_errno("open the program's version");
    struct stat status{};
    if (::fstat(from.get(), &status) != 0) return fail_errno("stat");
    if (!S_ISREG(status.st_mode)) return fail(Code::kUnavailable, "was replaced while it was read");
    const OwnedFd to(::openat(pair.home, pending.c_str(),
                              O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!to.valid()) return fail_errno("make " + pending + " beside it");
    PPDSM_TRY(copy_content(from, to));
    PPDSM_TRY(write_node(to, source, path));
    return sync_fd(to);
}

/// Where a link cannot be made (too many, not permitted, first name moved) a copy is made instead.
bool LayerMerge::link_first_name(const Pair& pair, const Source& source,
                                 const std::string& pending) {
    const FirstName* first = first_name(pair, source);
    if (first == nullptr) return false;
    const auto directory = open_parent_beneath(home_root_, first->path);
    if (!directory) return false;
    const std::string name(last_component(first->path));
    const auto there = look_at(directory->get(), name.c_str());
    if (!there || !*there || (*there)->st_ino != first->home_inode) return false;
    return ::linkat(directory->get(), name.c_str(), pair.home, pending.c_str(), 0) == 0;
}

/// The first "<name>.ppdsm-conflict[-N]" that is free, ours to replace, or already what we want.
Result<LayerMerge::Target> LayerMerge::conflict_name(const Pair& pair, const Source& source,
                                                     bool directory) {
    for (int number = 1; number <= kConflictNames; ++number) {
        std::string suffix(kConflictMark);
        if (number > 1) suffix += "-" + std::to_string(number);
        std::string name = name_with_suffix(source.name, suffix);
        PPDSM_ASSIGN(const auto of_program, look_at(pair.upper, name.c_str()));
        if (of_program) continue;
        PPDSM_ASSIGN(const auto there, look_at(pair.home, name.c_str()));
        if (!there) return Target{std::move(name), Target::State::kFree};
        bool same = false;
        if (directory && S_ISDIR(there->st_mode)) {
            PPDSM_ASSIGN(const OwnedFd upper, open_directory_at(pair.upper, source.name));
            PPDSM_ASSIGN(const OwnedFd home, open_directory_at(pair.home, name.c_str()));
            PPDSM_ASSIGN(same, same_tree(upper.get(), home.get(), 0));
        } else if (!directory && !S_ISDIR(there->st_mode)) {
            PPDSM_ASSIGN(same, same_content(pair.upper, source, pair.home, name.c_str(), *there));
        }
        if (same) return Target{std::move(name), Target::State::kSame};
        if (S_ISDIR(there->st_mode) == directory &&
            home_.left_by_us(join_path(pair.path, name), *there)) {
            return Target{std::move(name), Target::State::kOurs};
        }
    }
    return fail(Code::kUnsupported,
                "too many conflicts lie beside it; remove its *.ppdsm-conflict*");
}

Status LayerMerge::write_node(const OwnedFd& fd, const Source& source, const std::string& path) {
    std::vector<std::string> lost;
    PPDSM_TRY(write_metadata(fd, metadata_of(source.status, source.attributes), &lost));
    for (const std::string& what : lost) report_.skipped.push_back(path + ": cannot " + what);
    return {};
}

/// Looks through the whole layer for what cannot be merged, before home is touched.
Status check_upper(int directory_fd, const std::string& path, int depth) {
    if (depth >= kMaxTreeDepth) return fail(too_deep(path));
    PPDSM_ASSIGN(const std::vector<std::string> names, sorted_names(directory_fd));
    for (const std::string& name : names) {
        const std::string inner_path = join_path(path, name);
        PPDSM_ASSIGN(const auto status, look_at(directory_fd, name.c_str()));
        if (!status || is_whiteout(*status)) continue;
        PPDSM_ASSIGN(const Attributes attributes, read_attributes(directory_fd, name.c_str()));
        for (const char* kind : {"redirect", "metacopy"}) {
            if (find_overlay_attribute(attributes, kind) == nullptr) continue;
            return fail(Code::kUnsupported, inner_path + ": carries an overlay " + kind +
                                                "; mount the overlay with redirect_dir=off and "
                                                "metacopy=off");
        }
        if (!S_ISDIR(status->st_mode)) continue;
        PPDSM_ASSIGN(const OwnedFd inner, open_directory_at(directory_fd, name.c_str()));
        PPDSM_TRY(check_upper(inner.get(), inner_path, depth + 1));
    }
    return {};
}

}  // namespace

Result<ApplyReport> apply_layer(const std::filesystem::path& upper,
                                const std::filesystem::path& home, const HomeBaseline& baseline,
                                std::vector<std::pair<std::string, std::int64_t>>& applied) {
    PPDSM_ASSIGN(const OwnedFd upper_root, open_file(upper, O_RDONLY | O_DIRECTORY));
    PPDSM_ASSIGN(const OwnedFd home_root, open_file(home, O_RDONLY | O_DIRECTORY));
    if (Status sound = check_upper(upper_root.get(), "", 0); !sound) {
        return fail(sound.error().within("layer " + upper.string()));
    }
    PPDSM_ASSIGN(const Attributes attributes, read_attributes(upper_root.get(), ""));
    ApplyReport report;
    HomeTree tree(baseline, applied, report);
    LayerMerge merge(tree, home_root.get(), report);
    Status merged =
        merge.merge({upper_root.get(), home_root.get(), "", is_opaque(attributes), false, 0});
    if (merged) merged = tree.remove_vanished(upper_root.get(), home_root.get());
    applied = tree.applied();
    if (!merged) return fail(merged.error().within("apply to " + home.string()));
    PPDSM_TRY(sync_fd(home_root));
    return report;
}

}  // namespace ppdsm
