// Non-maximum suppression.
#ifndef YOLOTF_CSRC_DETECT_SUPPRESSION_H_
#define YOLOTF_CSRC_DETECT_SUPPRESSION_H_

#include <vector>

#include "detect/decode.h"
#include "detect/heads.h"

namespace yolotf {

struct KeptBox {
  Candidate candidate;
  Box box;
};

// Greedy non-maximum suppression, for each class: keeps the best box, drops the boxes that it
// suppresses, and so on (do_nms_sort, box.c:812, and diounms_sort, box.c:868). Returns the kept
// boxes, best first.
//
// candidates: of `heads`, which decodes their boxes; they are sorted.
std::vector<KeptBox> suppress(Candidates* candidates, const Heads& heads,
                              const DecodeOptions& options);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_DETECT_SUPPRESSION_H_
