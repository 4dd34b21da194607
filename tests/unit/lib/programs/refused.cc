// What must not compile, one mistake a CASE, each with the words that must be in the first error.
#include <atomic>
#include <memory>

#include "ppdsm/ppdsm.h"

struct Opaque {
    std::unique_ptr<int> owned;
};

struct NoDefault {
    explicit NoDefault(int given) : text(1, static_cast<char>(given)) {}
    std::string text;
    template <class Archive>
    void serialize(Archive& archive) {
        archive(text);
    }
};

struct HidesPointer {
    const char* name = nullptr;
    template <class Archive>
    void serialize(Archive& archive) {
        archive(name);
    }
};

int twice(int x) { return 2 * x; }

inline void check(ppdsm::VirtualComputer& vc) {
    static_cast<void>(vc);
#if CASE == 1
    // expect: what a lambda captures would not travel
    int captured = 0;
    vc.spawn([captured](int x) { return x + captured; }, 1);
#elif CASE == 2
    // expect: a pointer, reference or view cannot travel
    vc.spawn([](const char* text) { return *text; }, "text");
#elif CASE == 3
    // expect: cannot take a reference that it may write through
    vc.spawn([](std::string& text) { text.clear(); }, std::string());
#elif CASE == 4
    // expect: the arguments given to spawn are not those of the function
    vc.spawn(twice, std::string());
#elif CASE == 5
    // expect: the arguments given to spawn are not those of the function
    vc.spawn(twice);
#elif CASE == 6
    // expect: this type cannot travel between virtual threads; give it
    vc.spawn([] { return Opaque(); });
#elif CASE == 7
    // expect: this type cannot travel between virtual threads
    ppdsm::self().send({}, std::vector<Opaque>());
#elif CASE == 8
    // expect: needs a default constructor too
    vc.spawn([] { return NoDefault(1); }).get();
#elif CASE == 9
    // expect: a pointer, reference or view cannot travel
    ppdsm::self().send({}, HidesPointer());
#elif CASE == 10
    // expect: give its parameters' types
    vc.spawn([](auto x) { return x; }, 1);
#elif CASE == 11
    // expect: spawn takes a function or a captureless lambda
    vc.spawn(7);
#elif CASE == 12
    // expect: this type cannot travel between virtual threads
    ppdsm::Mailbox<Opaque> mailbox("x");
#elif CASE == 13
    // expect: this type cannot travel between virtual threads
    ppdsm::self().report(Opaque());
#elif CASE == 14
    // expect: on_partial<P> takes what can be called with a const P&
    vc.spawn(twice, 1).on_partial<int>([](std::string) {});
#elif CASE == 15
    // expect: a pointer, reference or view cannot travel
    vc.spawn([]() -> std::string_view { return "text"; });
#elif CASE == 16
    // expect: this type cannot travel between virtual threads
    ppdsm::self().receive<Opaque>();
#elif CASE == 17
    // expect: this type cannot travel between virtual threads
    vc.spawn([](const std::atomic<int>& shared) { return shared.load(); }, 1);
#elif CASE == 18
    // expect: a pointer, reference or view cannot travel
    ppdsm::self().send({}, std::vector<std::map<int, const char*> >());
#elif CASE != 0
#error no such case
#endif
}
