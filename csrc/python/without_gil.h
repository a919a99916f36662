// Releases Python's lock (the GIL) for native work, safely even if the interpreter exits meanwhile.
//
// When a program exits, its daemon threads keep running. CPython terminates those that request the
// GIL by unwinding their stacks, at which C++ aborts the process, and static objects are destroyed
// while threads still use them. Therefore the exit of the interpreter waits for native work in
// progress, and no new work starts after it. Work that takes too long is abandoned: its thread
// never returns to Python, and the process exits with its code without running destructors.
#ifndef YOLOTF_CSRC_PYTHON_WITHOUT_GIL_H_
#define YOLOTF_CSRC_PYTHON_WITHOUT_GIL_H_

#include <pthread.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace yolotf {

// Releases the GIL during its lifetime.
class WithoutGil {
 public:
  WithoutGil() {
    if (ended_ && PyThread_get_thread_ident() != ender_) {
      PyEval_SaveThread();
      stay();
    }
    ++count_;
    state_ = PyEval_SaveThread();
  }
  ~WithoutGil() {
    if (left_ && PyThread_get_thread_ident() != ender_) {
      stay();
    }
    PyEval_RestoreThread(state_);
    --count_;
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

  // Each module that uses this class calls it once.
  static void prepare() {
    pthread_atfork(nullptr, nullptr, [] { count_ = 0; });  // a fork has no other threads
    pybind11::module_::import("atexit").attr("register")(pybind11::cpp_function(&end));
  }

  // Seconds that the interpreter's exit waits for native work, which may hang on a file.
  static void set_wait(double seconds) { wait_ = seconds; }

 private:
  static void end() {
    constexpr int kSteps = 1000;  // per second
    ended_ = true;
    ender_ = PyThread_get_thread_ident();
    for (int i = 0; i < wait_ * kSteps && count_ > 0; ++i) {
      PyThreadState* state = PyEval_SaveThread();
      usleep(1000000 / kSteps);
      PyEval_RestoreThread(state);
    }
    if (count_ > 0 && !left_.exchange(true)) {
#ifdef __GLIBC__
      // Runs before the destructors of TensorFlow and others, whose objects the work still uses.
      on_exit(
          [](int code, void*) {
            std::fflush(nullptr);
            _exit(code);
          },
          nullptr);
#endif
    }
  }

  // Suspends the thread forever, as Python 3.14 does.
  [[noreturn]] static void stay() {
    while (true) {
      pause();
    }
  }

  // Only accessed with the GIL held.
  inline static bool ended_ = false;
  inline static unsigned long ender_ = 0;
  inline static int count_ = 0;
  inline static double wait_ = 10;
  // Whether Python has exited without waiting any longer; read without the GIL.
  inline static std::atomic<bool> left_ = false;

  PyThreadState* state_ = nullptr;
};

}  // namespace yolotf

#endif  // YOLOTF_CSRC_PYTHON_WITHOUT_GIL_H_
