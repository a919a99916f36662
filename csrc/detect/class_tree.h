// Class trees of [region]: selects the class of a box. Uses only the standard library.
#ifndef YOLOTF_CSRC_DETECT_CLASS_TREE_H_
#define YOLOTF_CSRC_DETECT_CLASS_TREE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace yolotf {

/// A tree of classes, as read from the file of `tree=` (tree.c).
class ClassTree {
 public:
  // A class and its probability, multiplied by those of all classes above it.
  struct Share {
    std::int64_t class_id = -1;
    float probability = 0;
  };

  /// parents: the class above each class, which comes before it; -1 for a root. groups: lengths of
  /// the runs of classes with the same parent, covering all classes; each run has its softmax.
  /// Throws std::invalid_argument if the arguments are invalid; indices are not checked later.
  ClassTree(const std::vector<std::int64_t>& parents, const std::vector<std::int64_t>& groups);

  std::int64_t classes() const noexcept { return classes_; }

  /// The last class whose probability is above a half; class_id is -1 if there is none
  /// (get_region_boxes, region_layer.c:379-420; hierarchy_predictions, tree.c:37).
  /// numbers: the raw output of each class; may be NaN. waiting: scratch memory, reused.
  Share last_likely(const float* numbers, std::vector<Share>* waiting) const;

 private:
  struct Run {  // classes [begin, end) with the same parent
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };

  std::int64_t classes_;
  std::vector<Run> runs_;            // by parent
  std::vector<std::size_t> starts_;  // index in `runs_` of the runs below class i - 1
};

}  // namespace yolotf

#endif  // YOLOTF_CSRC_DETECT_CLASS_TREE_H_
