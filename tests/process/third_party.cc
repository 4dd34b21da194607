#include "tests/process/third_party.h"

namespace ppdsm::process_test {
namespace {

constexpr std::string_view kPython = R"(
import hashlib, json
def digits(count):
    q, r, t, k, m, x = 1, 0, 1, 1, 3, 3
    while count:
        if 4 * q + r - t < m * t:
            yield m
            count -= 1
            q, r, m = 10 * q, 10 * (r - m * t), (10 * (3 * q + r)) // t - 10 * m
        else:
            q, r, t, k, m, x = q * k, (2 * q + r) * x, t * x, k + 1, \
                (q * (7 * k + 2) + r * x) // (t * x), x + 2
seen = {}
line = ''
for place, digit in enumerate(digits(6000)):
    line += str(digit)
    seen.setdefault(digit, []).append(place)
    if len(line) == 50:
        print(line, hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16], flush=True)
        line = ''
with open('seen.json', 'w') as out:
    json.dump({str(k): v for k, v in sorted(seen.items())}, out, indent=1)
)";

constexpr std::string_view kPerl = R"(
use strict; use warnings; $| = 1;
my (%count, %next); my $state = 1;
open my $in, '<', 'words.txt' or die; open my $out, '>', 'pairs.txt' or die;
my $before = '';
while (my $line = <$in>) {
    for my $word (split /[ \n]+/, $line) {
        $count{$word}++; $next{$before}{$word}++; $before = $word;
        $state = ($state * 1103515245 + length($word) * ord($word || 'x')) % 2147483648;
    }
    print "line $. state $state words ", scalar(keys %count), "\n" if $. % 2000 == 0;
}
for my $word (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count) {
    print $out "$word $count{$word} ", scalar(keys %{$next{$word} || {}}), "\n";
}
close $out;
)";

constexpr std::string_view kSql = R"(
pragma journal_mode = wal;
create table item(id integer primary key, word text, amount integer);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 220000)
  insert into item select i, printf('%x', (i * 7919) % 100003), (i * 104729) % 1000 from n;
select count(*), sum(amount) from item;
create index by_word on item(word, amount);
select word, sum(amount) from item group by word order by 2 desc, 1 limit 20;
begin; update item set amount = amount + length(word) where id % 3 = 0; commit;
select count(*), sum(amount) from item;
delete from item where id % 7 = 0;
select count(*) from item a join item b on a.word = b.word and a.id < b.id;
vacuum;
pragma integrity_check;
)";

constexpr std::string_view kAwk = R"(
{ for (i = 1; i <= NF; ++i) { ++count[$i]; sum = (sum * 31 + length($i) * NR + i) % 1000003 } }
NR % 2000 == 0 { print NR, sum; fflush() }
END { n = 0; for (w in count) ++n; print n, sum; for (i = 0; i < 20000000; ++i) sum = (sum * 7 + i) % 1000003; print sum }
)";

/// A C file of many functions whose loops keep the optimiser busy.
std::string generated_source(int functions) {
    std::string text = "#include <stdint.h>\n";
    for (int i = 0; i < functions; ++i) {
        const std::string n = std::to_string(i);
        text +=
            "uint64_t f" + n + "(const uint32_t* a, uint64_t* b, int n) {\n  uint64_t s = " + n +
            ";\n  for (int i = 0; i < n; ++i) {\n    s = s * 31 + (a[i] ^ (s >> " +
            std::to_string(i % 30 + 1) + "));\n    b[i] += s % " + std::to_string(i + 3) +
            ";\n    switch (s & 7) { case 0: s += b[i]; break; case 3: s ^= a[n - 1 - i]; break;"
            " case 5: b[i] = s / " +
            std::to_string(i + 7) + "; break; default: s -= (uint64_t)i; }\n  }\n  return s;\n}\n";
    }
    return text;
}

std::function<void(const fs::path&)> text_file(const char* name, std::string_view text) {
    return [name, text](const fs::path& directory) { write_text(directory / name, text); };
}

std::function<void(const fs::path&)> prose(const char* name, std::size_t size_bytes) {
    return [name, size_bytes](const fs::path& directory) {
        write_prose(directory / name, size_bytes);
    };
}

}  // namespace

const std::vector<ThirdParty>& third_parties() {
    static const std::vector<ThirdParty> all = {
        {"python3", {"python3"}, {"python3", "job.py"}, text_file("job.py", kPython)},
        {"perl",
         {"perl"},
         {"perl", "job.pl"},
         [](const fs::path& directory) {
             write_text(directory / "job.pl", kPerl);
             write_prose(directory / "words.txt", 9'000'000);
         }},
        {"gzip", {"gzip"}, {"gzip", "-9", "-n", "-k", "data"}, prose("data", 70'000'000)},
        {"xz",
         {"xz"},
         {"xz", "-T2", "--block-size=1MiB", "-6", "-k", "data"},
         prose("data", 10'000'000)},
        {"sqlite3",
         {"sqlite3"},
         {"sqlite3", "job.db", ".read job.sql"},
         text_file("job.sql", kSql),
         true},
        {"bc",
         {"bc"},
         {"bc", "-l", "job.bc"},
         text_file("job.bc",
                   "for (d = 100; d <= 1000; d += 100) { scale = d; 4 * a(1); e(1) }\nquit\n")},
        {"awk",
         {"awk"},
         {"awk", "-f", "job.awk", "words.txt"},
         [](const fs::path& directory) {
             write_text(directory / "job.awk", kAwk);
             write_prose(directory / "words.txt", 12'000'000);
         }},
        {"pipeline",
         {"sh", "seq", "sort", "awk", "tee", "md5sum"},
         {"sh", "-c",
          "for i in 1 2 3 4 5 6; do seq 1 1000000 | sort -S 4M -r | awk '{ s = (s * 3 + $1) % "
          "1000003; "
          "print s, $1 }' | tee part-$i | md5sum; done; wc -c part-1; exit 6"},
         {}},
        {"gcc",
         {"gcc"},
         {"gcc", "-O2", "-c", "generated.c", "-o", "generated.o"},
         [](const fs::path& directory) {
             write_text(directory / "generated.c", generated_source(220));
         }},
        {"openssl",
         {"sh", "openssl"},
         {"sh", "-c",
          "openssl enc -aes-256-cbc -pbkdf2 -iter 3000000 -S 0011223344556677 -pass pass:test "
          "-in data -out data.enc && openssl dgst -sha512 data data.enc"},
         prose("data", 30'000'000)},
    };
    return all;
}

}  // namespace ppdsm::process_test
