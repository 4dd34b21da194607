#include "criu-glue/images/tree_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "criu-glue/images/file_table.h"
#include "criu-glue/images/page_diff.h"

namespace ppdsm {
namespace {

using images::AddressSpace;
using images::FileTable;
using images::PageFate;

bool same_descriptor(const Descriptor& a, const Descriptor& b) {
    return a.kind == b.kind && a.description == b.description && a.state == b.state &&
           a.flags == b.flags && a.close_on_exec == b.close_on_exec && a.deleted == b.deleted &&
           a.position == b.position && a.size_bytes == b.size_bytes;
}

std::vector<DescriptorDiff> diff_descriptors(const ProcessImage& before,
                                             const ProcessImage& after) {
    std::map<std::uint32_t, DescriptorDiff> all;
    for (const Descriptor& descriptor : before.descriptors) {
        all[descriptor.fd].before = descriptor;
    }
    for (const Descriptor& descriptor : after.descriptors) all[descriptor.fd].after = descriptor;
    std::vector<DescriptorDiff> differing;
    for (auto& [fd, diff] : all) {
        if (diff.before && diff.after && same_descriptor(*diff.before, *diff.after)) continue;
        diff.fd = fd;
        differing.push_back(std::move(diff));
    }
    return differing;
}

std::string thread_text(const ProcessImage& process) {
    std::vector<std::uint32_t> tids;
    for (const ThreadImage& thread : process.threads) tids.push_back(thread.tid);
    std::sort(tids.begin(), tids.end());
    return fmt::format("{}", fmt::join(tids, " "));
}

std::vector<FieldChange> diff_fields(const ProcessImage& before, const ProcessImage& after) {
    std::vector<FieldChange> changes;
    const auto compare = [&](const char* field, const std::string& old_value,
                             const std::string& new_value) {
        if (old_value != new_value) changes.push_back({field, old_value, new_value});
    };
    compare("command", before.comm, after.comm);
    compare("arguments", fmt::format("{}", fmt::join(before.arguments, " ")),
            fmt::format("{}", fmt::join(after.arguments, " ")));
    compare("state", std::string(process_state_name(before.state)),
            std::string(process_state_name(after.state)));
    compare("parent", std::to_string(before.ppid), std::to_string(after.ppid));
    compare("process group", std::to_string(before.pgid), std::to_string(after.pgid));
    compare("session", std::to_string(before.sid), std::to_string(after.sid));
    compare("threads", thread_text(before), thread_text(after));
    compare("exe", before.exe, after.exe);
    compare("cwd", before.cwd, after.cwd);
    compare("root", before.root, after.root);
    return changes;
}

// The mappings of both sides, those that are the same one paired, and each page's way to its own.
class MappingTable {
public:
    MappingTable(const std::vector<Mapping>& before, const std::vector<Mapping>& after) {
        for (const Mapping& mapping : before) {
            old_places_.push_back({mapping.start, mapping.end, diffs_.size()});
            diffs_.push_back({mapping, std::nullopt, {}});
        }
        auto old_place = old_places_.begin();
        for (const Mapping& mapping : after) {
            while (old_place != old_places_.end() && old_place->start < mapping.start) ++old_place;
            if (old_place != old_places_.end() && old_place->start == mapping.start &&
                same_thing(*diffs_[old_place->diff].before, mapping)) {
                new_places_.push_back({mapping.start, mapping.end, old_place->diff});
                diffs_[old_place->diff].after = mapping;
            } else {
                new_places_.push_back({mapping.start, mapping.end, diffs_.size()});
                diffs_.push_back({std::nullopt, mapping, {}});
            }
        }
    }

    void count(std::uint64_t address, PageFate fate) {
        MappingDiff* diff =
            fate == PageFate::kRemoved ? find(old_places_, address) : find(new_places_, address);
        if (diff != nullptr) add(diff->pages, fate);
        add(total_, fate);
    }

    [[nodiscard]] const PageCounts& total() const { return total_; }

    std::vector<MappingDiff> take_differing() {
        std::vector<MappingDiff> differing;
        for (MappingDiff& diff : diffs_) {
            const bool same =
                diff.before && diff.after && !diff.pages.differ() && *diff.before == *diff.after;
            if (!same) differing.push_back(std::move(diff));
        }
        std::sort(differing.begin(), differing.end(),
                  [](const MappingDiff& a, const MappingDiff& b) {
                      return (a.after ? *a.after : *a.before).start <
                             (b.after ? *b.after : *b.before).start;
                  });
        return differing;
    }

private:
    struct Place {
        std::uint64_t start;
        std::uint64_t end;
        std::size_t diff;
    };

    static bool same_thing(const Mapping& a, const Mapping& b) {
        return a.kind == b.kind && a.name == b.name && a.offset_bytes == b.offset_bytes;
    }

    static void add(PageCounts& counts, PageFate fate) {
        switch (fate) {
            case PageFate::kUnchanged: ++counts.unchanged; break;
            case PageFate::kChanged: ++counts.changed; break;
            case PageFate::kAdded: ++counts.added; break;
            case PageFate::kRemoved: ++counts.removed; break;
        }
    }

    MappingDiff* find(const std::vector<Place>& places, std::uint64_t address) {
        const auto place = std::upper_bound(
            places.begin(), places.end(), address,
            [](std::uint64_t wanted, const Place& each) { return wanted < each.end; });
        if (place == places.end() || place->start > address) return nullptr;
        return &diffs_[place->diff];
    }

    std::vector<MappingDiff> diffs_;
    std::vector<Place> old_places_;
    std::vector<Place> new_places_;
    PageCounts total_;
};

struct OpenState {
    bool present = false;
    std::optional<std::uint64_t> size_bytes;
};

std::map<std::string, OpenState> files_of(const ProcessTree& tree) {
    std::map<std::string, OpenState> files;
    for (const ProcessImage& process : tree.processes) {
        for (const Mapping& mapping : process.mappings) {
            if (mapping.kind == MappingKind::kFile) files[mapping.name].present = true;
        }
        for (const Descriptor& descriptor : process.descriptors) {
            const bool named = descriptor.kind == DescriptorKind::kFile ||
                               descriptor.kind == DescriptorKind::kDirectory ||
                               descriptor.kind == DescriptorKind::kDevice ||
                               descriptor.kind == DescriptorKind::kFifo ||
                               descriptor.kind == DescriptorKind::kMemfd;
            if (!named) continue;
            OpenState& state = files[descriptor.description];
            state.present = true;
            if (descriptor.kind == DescriptorKind::kFile ||
                descriptor.kind == DescriptorKind::kMemfd) {
                state.size_bytes = descriptor.size_bytes;
            }
        }
    }
    return files;
}

std::vector<FileDiff> diff_files(const ProcessTree& before, const ProcessTree& after) {
    std::map<std::string, OpenState> old_files = files_of(before);
    std::map<std::string, OpenState> new_files = files_of(after);
    std::set<std::string> paths;
    for (const auto& [path, state] : old_files) paths.insert(path);
    for (const auto& [path, state] : new_files) paths.insert(path);
    std::vector<FileDiff> differing;
    for (const std::string& path : paths) {
        const OpenState& old_state = old_files[path];
        const OpenState& new_state = new_files[path];
        // A size that only one of them wrote down says nothing.
        const bool resized = old_state.size_bytes && new_state.size_bytes &&
                             *old_state.size_bytes != *new_state.size_bytes;
        if (old_state.present && new_state.present && !resized) continue;
        differing.push_back({path, old_state.present, new_state.present, old_state.size_bytes,
                             new_state.size_bytes});
    }
    return differing;
}

bool has_memory(const ProcessImage& process) {
    return process.state == ProcessState::kRunning || process.state == ProcessState::kStopped;
}

class TreeComparison {
public:
    TreeComparison(ImageSource& before, ImageSource& after, const PageComparator& comparator)
        : before_(before), after_(after), comparator_(comparator) {}

    Result<TreeDiff> run() {
        PPDSM_ASSIGN(const ProcessTree old_tree, read_process_tree(before_));
        PPDSM_ASSIGN(const ProcessTree new_tree, read_process_tree(after_));
        PPDSM_ASSIGN(old_files_, FileTable::read(before_));
        PPDSM_ASSIGN(new_files_, FileTable::read(after_));
        for (const ProcessImage& process : old_tree.processes) {
            if (new_tree.find(process.pid) == nullptr) {
                diff_.removed.push_back({process.pid, process.comm, process.image_bytes()});
            }
        }
        for (const ProcessImage& process : new_tree.processes) {
            const ProcessImage* old_process = old_tree.find(process.pid);
            if (old_process == nullptr) {
                diff_.added.push_back({process.pid, process.comm, process.image_bytes()});
            } else {
                PPDSM_TRY(compare(*old_process, process));
            }
        }
        diff_.files = diff_files(old_tree, new_tree);
        return std::move(diff_);
    }

private:
    Result<AddressSpace> space_of(ImageSource& source, const FileTable& files,
                                  const ProcessImage& process) {
        if (!has_memory(process)) return AddressSpace();
        return images::read_address_space(source, files, process.pid);
    }

    Status compare(const ProcessImage& old_process, const ProcessImage& new_process) {
        PPDSM_ASSIGN(AddressSpace old_space, space_of(before_, old_files_, old_process));
        PPDSM_ASSIGN(AddressSpace new_space, space_of(after_, new_files_, new_process));
        // A side without pages has no page size of its own.
        if (old_space.extents.empty()) old_space.page_bytes = new_space.page_bytes;
        if (new_space.extents.empty()) new_space.page_bytes = old_space.page_bytes;
        MappingTable mappings(old_process.mappings, new_process.mappings);
        PPDSM_TRY(images::compare_pages(
            {before_, old_space}, {after_, new_space}, comparator_,
            [&](std::uint64_t address, PageFate fate) { mappings.count(address, fate); }));
        ProcessDiff diff;
        diff.pid = new_process.pid;
        diff.comm = new_process.comm;
        diff.fields = diff_fields(old_process, new_process);
        diff.pages = mappings.total();
        diff.mappings = mappings.take_differing();
        diff.descriptors = diff_descriptors(old_process, new_process);
        diff_.page_bytes = new_space.page_bytes;
        diff_.pages.changed += diff.pages.changed;
        diff_.pages.added += diff.pages.added;
        diff_.pages.removed += diff.pages.removed;
        diff_.pages.unchanged += diff.pages.unchanged;
        diff_.common.push_back(std::move(diff));
        return {};
    }

    ImageSource& before_;
    ImageSource& after_;
    const PageComparator& comparator_;
    FileTable old_files_;
    FileTable new_files_;
    TreeDiff diff_;
};

}  // namespace

bool ProcessDiff::differs() const {
    return !fields.empty() || pages.differ() || !mappings.empty() || !descriptors.empty();
}

Result<TreeDiff> diff_trees(ImageSource& before, ImageSource& after,
                            const PageComparator& comparator) {
    return TreeComparison(before, after, comparator).run();
}

}  // namespace ppdsm
