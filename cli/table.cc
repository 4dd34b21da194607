#include "cli/table.h"

#include <fmt/format.h>

#include <algorithm>

namespace ppdsm {

Table::Table(std::vector<std::string> columns) : columns_(std::move(columns)) {
    for (std::string& name : columns_) {
        right_.push_back(name.ends_with('>'));
        if (right_.back()) name.pop_back();
    }
}

void Table::add(std::vector<std::string> row) {
    row.resize(columns_.size());
    rows_.push_back(std::move(row));
}

void Table::print() const {
    std::vector<std::size_t> widths;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
        std::size_t width = columns_[i].size();
        for (const auto& row : rows_) width = std::max(width, row[i].size());
        widths.push_back(width);
    }
    const auto print_row = [&](const std::vector<std::string>& row) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            line += right_[i] ? fmt::format("{:>{}}", row[i], widths[i])
                              : fmt::format("{:<{}}", row[i], widths[i]);
            line += "  ";
        }
        line.erase(line.find_last_not_of(' ') + 1);
        fmt::print("{}\n", line);
    };
    print_row(columns_);
    for (const auto& row : rows_) print_row(row);
}

}  // namespace ppdsm
