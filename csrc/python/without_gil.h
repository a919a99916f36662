// Releases the GIL for native work, safely even if the interpreter exits meanwhile.
//
// Daemon threads keep running while a program exits. CPython ends those that request the GIL by
// unwinding their stacks, which makes C++ abort the process; and static objects are destroyed while
// threads still use them. Therefore the exit waits for native work in progress and lets no new work
// start. Work that takes too long is abandoned: its thread never returns to Python, and the process
// ends with its exit code, but without running destructors.
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
    stop_if_exiting();
    ++in_progress_;
    state_ = PyEval_SaveThread();
  }
  ~WithoutGil() {
    if (abandoned_ && PyThread_get_thread_ident() != exiting_thread_) {
      block_forever();
    }
    PyEval_RestoreThread(state_);
    --in_progress_;
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

  // Counts work of other libraries, which release the GIL themselves; begin and end hold it. Does
  // not begin if the interpreter is exiting. As such a library takes the GIL at its end, whether or
  // not the interpreter is exiting, the exit waits longer.
  static void begin_work() {
    stop_if_exiting();
    ++in_progress_;
    ++foreign_;
  }
  static void end_work() {
    --foreign_;
    --in_progress_;
  }

  // Calls a finalizer, which needs the GIL or has it and may run Python code; does nothing if the
  // interpreter is exiting, as its code would end this thread inside of C++.
  template <typename Finalizer>
  static void finalize(const Finalizer& finalizer) {
    ++in_progress_;  // before the check: from then on an exit waits
    if (!is_exiting_elsewhere()) {
      finalizer();
    }
    --in_progress_;
  }

  // Must be called once by each module that uses this class.
  static void register_exit_handler() {
    pthread_atfork(nullptr, nullptr,
                   [] { in_progress_ = foreign_ = 0; });  // a child has no other threads
    pybind11::module_::import("atexit").attr("register")(pybind11::cpp_function(&wait_at_exit));
  }

  // How long the interpreter's exit waits for native work, which may hang on a file.
  static void set_exit_timeout(double seconds) { exit_timeout_ = seconds; }

 private:
  static void wait_at_exit() {
    constexpr int kStepsPerSecond = 1000;
    exiting_thread_ = PyThread_get_thread_ident();
    exiting_ = true;
    constexpr int kForeignFactor = 30;
    const double steps = exit_timeout_ * kStepsPerSecond;
    for (int i = 0; in_progress_ > 0 && i < steps * (foreign_ > 0 ? kForeignFactor : 1); ++i) {
      PyThreadState* state = PyEval_SaveThread();
      usleep(1000000 / kStepsPerSecond);
      PyEval_RestoreThread(state);
    }
    if (in_progress_ > 0 && !abandoned_.exchange(true)) {
#ifdef __GLIBC__
      // Runs before the destructors of TensorFlow and others, whose objects are still in use.
      on_exit(
          [](int code, void*) {
            std::fflush(nullptr);
            _exit(code);
          },
          nullptr);
#endif
    }
  }

  // What Python 3.14 does with threads that request the GIL during exit.
  [[noreturn]] static void block_forever() {
    while (true) {
      pause();
    }
  }

  static void stop_if_exiting() {
    if (is_exiting_elsewhere()) {
      PyEval_SaveThread();
      block_forever();
    }
  }

  static bool is_exiting_elsewhere() {
    return exiting_ && PyThread_get_thread_ident() != exiting_thread_;
  }

  // Read without the GIL, too.
  inline static std::atomic<bool> exiting_ = false;
  inline static std::atomic<unsigned long> exiting_thread_ = 0;
  inline static std::atomic<int> in_progress_ = 0;
  inline static std::atomic<int> foreign_ = 0;
  // Whether the exit has stopped waiting.
  inline static std::atomic<bool> abandoned_ = false;
  // Accessed only with the GIL.
  inline static double exit_timeout_ = 10;

  PyThreadState* state_ = nullptr;
};

}  // namespace yolotf

#endif  // YOLOTF_CSRC_PYTHON_WITHOUT_GIL_H_
