#include "detect/class_tree.h"

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

namespace yolotf {
namespace {

constexpr float kTreeLimit = 0.5F;  // region_layer.c:413

std::string text(std::int64_t number) { return std::to_string(number); }

std::invalid_argument refused(const std::string& sentence) {
  return std::invalid_argument("class tree: " + sentence);
}

// The most likely class of a group, and its softmax probability times `above`. The probability is
// exact only if it is above the limit, which at most one can be; so the sum may stop early.
ClassTree::Share likeliest(const float* numbers, std::int64_t begin, std::int64_t end,
                           float above) {
  ClassTree::Share best{begin, 0};
  float largest = -std::numeric_limits<float>::infinity();
  for (std::int64_t i = begin; i < end; ++i) {
    if (numbers[i] > largest) {
      largest = numbers[i];
      best.class_id = i;
    }
  }
  const double enough = 1.001 * static_cast<double>(above / kTreeLimit);  // beyond any rounding
  double sum = 0;
  for (std::int64_t i = begin; i < end && sum < enough; ++i) {  // NaN ends it too
    sum += std::exp(static_cast<double>(numbers[i] - largest));
  }
  best.probability = static_cast<float>(1 / sum) * above;
  return best;
}

}  // namespace

ClassTree::ClassTree(const std::vector<std::int64_t>& parents,
                     const std::vector<std::int64_t>& groups)
    : classes_(static_cast<std::int64_t>(parents.size())), starts_(parents.size() + 2) {
  const auto parent = [&](std::int64_t i) { return parents[static_cast<std::size_t>(i)]; };
  for (std::int64_t i = 0; i < classes_; ++i) {
    if (parent(i) < -1 || parent(i) >= i) {
      throw refused("the parent of class " + text(i) + " is " + text(parent(i)) +
                    "; it must be a class before it, or -1");
    }
  }
  std::int64_t begin = 0;
  for (const std::int64_t group : groups) {
    if (group < 1 || group > classes_ - begin) {
      throw refused("a group of " + text(group) + " classes from class " + text(begin) +
                    " on, there are " + text(classes_) + " in all");
    }
    for (std::int64_t i = begin; i < begin + group; ++i) {
      if (parent(i) != parent(begin)) {
        throw refused("classes " + text(begin) + " and " + text(i) +
                      " of one group have the parents " + text(parent(begin)) + " and " +
                      text(parent(i)));
      }
    }
    ++starts_[static_cast<std::size_t>(parent(begin) + 2)];
    begin += group;
  }
  if (begin != classes_) {
    throw refused("groups have " + text(begin) + " classes, there are " + text(classes_) +
                  " in all");
  }
  for (std::size_t i = 1; i < starts_.size(); ++i) {
    starts_[i] += starts_[i - 1];
  }
  std::vector<std::size_t> next = starts_;
  runs_.resize(groups.size());
  begin = 0;
  for (const std::int64_t group : groups) {
    runs_[next[static_cast<std::size_t>(parent(begin) + 1)]++] = {begin, begin + group};
    begin += group;
  }
}

ClassTree::Share ClassTree::last_likely(const float* numbers, std::vector<Share>* waiting) const {
  Share last;
  waiting->assign(1, {-1, 1});
  while (!waiting->empty()) {
    const Share above = waiting->back();
    waiting->pop_back();
    const auto place = static_cast<std::size_t>(above.class_id + 1);
    for (std::size_t i = starts_[place]; i < starts_[place + 1]; ++i) {
      const Share best = likeliest(numbers, runs_[i].begin, runs_[i].end, above.probability);
      if (best.probability > kTreeLimit) {  // otherwise no class below is either
        last = best.class_id > last.class_id ? best : last;
        waiting->push_back(best);
      }
    }
  }
  return last;
}

}  // namespace yolotf
