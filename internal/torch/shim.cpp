// The shim as one translation unit: reading libtorch's headers takes longer than compiling all of it. The parts are .hpp files
// beside this one, which the Go tool sees (a change rebuilds); each is included here and nowhere else.
#define USE_C10D_GLOO
#include "core.hpp"
#include "hooks.hpp"
#include "optim.hpp"
#include "fused.hpp"
#include "t5.hpp"
#include "attention.hpp"
#include "loss.hpp"
#include "composed.hpp"
#include "checkpoint.hpp"
#include "gloo.hpp"
