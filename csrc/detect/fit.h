// Resizes images to a network's input as Darknet or OpenCV does. Uses only the standard library.
//
// Sources: AlexeyAB/darknet src/image.c:1006 (letterbox_image) and 1399 (resize_image), of which
// the graph of standard operations that exported models hold (yolotf/graphs/operations.py) computes
// the same, to the last bit; OpenCV's bilinear cv::resize (modules/imgproc/src/resize.cpp), with
// which both Darknets train (src/image_opencv.cpp:317) and hank-ai's predicts
// (src-lib/darknet.cpp:1373).
#ifndef YOLOTF_CSRC_DETECT_FIT_H_
#define YOLOTF_CSRC_DETECT_FIT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace yolotf {

enum class Resize {
  kDarknet,  // aligns the corner pixels; computes in floats
  kOpenCv,   // aligns pixel centers; bytes in fixed point, rounded to bytes
  // INTER_LINEAR_EXACT: the same in fixed point of 8 and 16 bits, the same bytes on every machine
  kOpenCvExact,
};

struct Picture {
  const void* pixels = nullptr;  // [height, width, channels], contiguous, at least 1 x 1
  bool bytes = true;             // uint8 in 0..255, else float32 in 0..1
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t inner_height = 0;  // its size in the middle of the input; at most the input's
  std::int64_t inner_width = 0;
};

// The floats of `count` inputs of this shape; -1 if a number is negative or no memory could hold
// them.
std::int64_t input_floats(std::int64_t count, std::int64_t height, std::int64_t width,
                          std::int64_t channels) noexcept;

/// Writes [images, height, width, channels] float32 in 0..1: each image resized bilinearly to its
/// inner rectangle, with 0.5 around it. Uses up to `threads` threads.
void fit(const std::vector<Picture>& pictures, std::int64_t height, std::int64_t width,
         std::int64_t channels, float* out, int threads, Resize resize = Resize::kDarknet);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_DETECT_FIT_H_
