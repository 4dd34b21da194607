// The travelling salesman by a genetic algorithm: islands that pull work and interbreed by
// messages.
//
// Each virtual thread is an island with a population of its own. It reports how far it is and is
// given another chunk of generations in return until there are none left, so a fast peer gets more
// of them. After each chunk the island's best chromosome goes to the next island, where it joins in
// before that one's next chunk.
//
// Which chromosomes an island has met by then, and how many chunks it is given, depends on who is
// faster, so runs differ. In step neither does: every island evolves its own share, and its n-th
// chunk begins with what its neighbour's chunk before that ended with.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "kernels/common/command.h"
#include "kernels/ga_tsp/check_tour.h"
#include "kernels/ga_tsp/tsplib.h"
#include "ppdsm/ppdsm.h"

namespace kernels {
namespace {

struct GaFlags : CommonFlags {
    std::string file;
    std::string output;
    std::uint64_t islands = 4;
    std::uint64_t population = 100;
    std::uint64_t generations = 1000;
    std::uint64_t chunk = 50;
    bool in_step = false;
    bool progress = false;
};

/// What an island is told.
struct Settlement {
    std::uint64_t island;
    std::uint64_t islands;
    std::uint64_t population;
    std::uint64_t seed;
    bool in_step;
    Instance instance;

    template <class Archive>
    void serialize(Archive& archive) {
        archive(island, islands, population, seed, in_step, instance);
    }
};

/// An island has nothing to do; so far its best tour is so long.
struct Idle {
    std::uint64_t island;
    std::int64_t best_length;
};

/// Generations to evolve; 0: no more.
ppdsm::Mailbox<std::uint64_t> chunks_for(std::uint64_t island) {
    return ppdsm::Mailbox<std::uint64_t>("chunks " + std::to_string(island));
}

/// Where chromosomes of other islands arrive.
ppdsm::Mailbox<Chromosome> harbour_of(std::uint64_t island) {
    return ppdsm::Mailbox<Chromosome>("harbour " + std::to_string(island));
}

/// Those that have come so far.
void accept_all(Population& population, ppdsm::Mailbox<Chromosome>& harbour) {
    while (auto immigrant = harbour.try_receive()) population.accept(std::move(immigrant->value));
}

/// The island's best.
Chromosome settle(const Settlement& order) {
    const Distances distances(order.instance);
    Population population(distances, RandomStream(order.seed, order.island), order.population);
    auto chunks = chunks_for(order.island);
    auto harbour = harbour_of(order.island);
    auto next_harbour = harbour_of((order.island + 1) % order.islands);

    for (bool is_first = true;; is_first = false) {
        ppdsm::self().report(Idle{order.island, population.best().length});
        const std::uint64_t generations = chunks.receive().value;
        if (generations == 0) return population.best();
        if (order.in_step && !is_first) population.accept(harbour.receive().value);
        if (!order.in_step) accept_all(population, harbour);
        population.evolve(generations);
        next_harbour.send(population.best());
    }
}

/// Hands out generations, a chunk at a time, to islands that are idle.
class Farm {
public:
    explicit Farm(const GaFlags& flags) : flags_(flags), left_(flags.islands, flags.generations) {}

    void give_work(const Idle& idle) {
        best_length_ = std::min(best_length_, idle.best_length);
        if (flags_.progress) {
            std::fprintf(stderr, "island %llu: %lld; best %lld\n",
                         static_cast<unsigned long long>(idle.island),
                         static_cast<long long>(idle.best_length),
                         static_cast<long long>(best_length_));
        }
        chunks_for(idle.island).send(take_chunk(idle.island));
    }

    /// Generations that nobody was given.
    [[nodiscard]] std::uint64_t left() const {
        return std::accumulate(left_.begin(), left_.end(), std::uint64_t{0});
    }

private:
    /// From the island's own share or, unless in step, else from the largest that is left.
    std::uint64_t take_chunk(std::uint64_t island) {
        auto share = left_.begin() + static_cast<std::ptrdiff_t>(island);
        if (*share == 0 && !flags_.in_step) share = std::max_element(left_.begin(), left_.end());
        const std::uint64_t generations = std::min(flags_.chunk, *share);
        *share -= generations;
        return generations;
    }

    const GaFlags& flags_;
    std::vector<std::uint64_t> left_;  ///< Generations, of each island's share.
    std::int64_t best_length_ = std::numeric_limits<std::int64_t>::max();
};

Chromosome evolve_on_mesh(const GaFlags& flags, const Instance& instance) {
    ppdsm::VirtualComputer computer({.workers = flags.workers});
    Farm farm(flags);
    std::vector<ppdsm::VirtualThread<Chromosome>> islands;
    for (std::uint64_t island = 0; island < flags.islands; ++island) {
        islands.push_back(computer.spawn(settle, Settlement{island, flags.islands, flags.population,
                                                            flags.seed, flags.in_step, instance}));
        islands.back().on_partial<Idle>([&farm](const Idle& idle) { farm.give_work(idle); });
    }
    Chromosome best = islands.front().get();
    for (auto island = islands.begin() + 1; island != islands.end(); ++island) {
        Chromosome other = island->get();
        if (other.length < best.length) best = std::move(other);
    }
    expect(farm.left() == 0, std::to_string(farm.left()) + " generations were evolved by nobody");
    return best;
}

/// As TSPLIB writes tours.
void write_tour(const std::string& path, const std::string& name, const Chromosome& best) {
    std::ofstream out(path);
    out << "NAME: " << name << "\nTYPE: TOUR\nCOMMENT: length " << best.length
        << "\nDIMENSION: " << best.tour.size() << "\nTOUR_SECTION\n";
    for (const City city : best.tour) out << city + 1 << '\n';
    out << "-1\nEOF\n";
    if (!out.flush()) throw std::runtime_error("cannot write " + path);
}

void solve(const GaFlags& flags) {
    if (!flags.output.empty()) require_writable(flags.output);
    const Instance instance =
        flags.file.empty() ? Instance::random(flags.seed, flags.size) : read_tsplib(flags.file);
    const Chromosome best = evolve_on_mesh(flags, instance);
    std::printf("%s: %zu cities, tour of length %lld\n", instance.name.c_str(), best.tour.size(),
                static_cast<long long>(best.length));
    if (!flags.output.empty()) write_tour(flags.output, instance.name, best);
    if (flags.check) check_tour(Distances(instance), best);
}

void add_flags(CLI::App& app, GaFlags& flags) {
    app.add_option("--file", flags.file, "A TSPLIB file instead of random cities");
    app.add_option("--output", flags.output, "Where to write the tour, as TSPLIB does");
    app.add_option("--islands", flags.islands, "Virtual threads")->check(CLI::Range(1, 1024));
    app.add_option("--population", flags.population, "Chromosomes on each island")
        ->check(CLI::Range(2, 100'000));
    app.add_option("--generations", flags.generations, "Of each island, on average")
        ->check(CLI::Range(0, 1'000'000'000));
    app.add_option("--chunk", flags.chunk, "Generations between exchanges")
        ->check(CLI::Range(1, 1'000'000'000));
    app.add_flag("--in-step", flags.in_step,
                 "Equal shares and awaited exchanges: each run gives the same tour");
    app.add_flag("--progress", flags.progress, "Say how far the islands are, on standard error");
}

}  // namespace
}  // namespace kernels

int main(int argc, char** argv) {
    kernels::GaFlags flags;
    kernels::Command command(
        "ga_tsp", "The travelling salesman by a genetic algorithm: islands that interbreed");
    command.add_common(
        flags, {"Cities", kernels::Instance::kMinCities, kernels::Instance::kMaxCities, 200});
    kernels::add_flags(command.app(), flags);
    return command.run(argc, argv, [&] { kernels::solve(flags); });
}
