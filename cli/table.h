// Tables for people: columns as wide as they need, numbers to the right, a header when on a
// terminal or not alike, so that `awk` can read them too.
#pragma once

#include <string>
#include <vector>

namespace ppdsm {

class Table {
public:
    /// A name that ends in ">" aligns its column to the right.
    explicit Table(std::vector<std::string> columns);
    void add(std::vector<std::string> row);
    void print() const;

private:
    std::vector<std::string> columns_;
    std::vector<bool> right_;
    std::vector<std::vector<std::string>> rows_;
};

}  // namespace ppdsm
