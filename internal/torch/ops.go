package torch

import (
	lib "github.com/sugarme/gotch/libtch"
)

// The operations of libtch that models use. Each returns a tensor that the scope owns.

// Add returns a + b, elementwise with broadcasting.
func (s *Scope) Add(a, b Tensor) Tensor {
	var out lib.Ctensor
	lib.AtgAdd(&out, a.c, b.c)
	return s.own("add", out)
}

// MulScalar returns a times f.
func (s *Scope) MulScalar(a Tensor, f float64) Tensor {
	scalar := lib.AtsFloat(f)
	defer lib.AtsFree(scalar)
	var out lib.Ctensor
	lib.AtgMulScalar(&out, a.c, scalar)
	return s.own("mul", out)
}

// Gelu returns x Phi(x); tanh chooses the approximation that Hugging Face calls gelu_new and gelu_pytorch_tanh.
func (s *Scope) Gelu(x Tensor, tanh bool) Tensor {
	approximate := "none"
	if tanh {
		approximate = "tanh"
	}
	var out lib.Ctensor
	lib.AtgGelu(&out, x.c, approximate)
	return s.own("gelu", out)
}

// Relu returns max(x, 0).
func (s *Scope) Relu(x Tensor) Tensor {
	var out lib.Ctensor
	lib.AtgRelu(&out, x.c)
	return s.own("relu", out)
}

// Tanh returns the hyperbolic tangent of x.
func (s *Scope) Tanh(x Tensor) Tensor {
	var out lib.Ctensor
	lib.AtgTanh(&out, x.c)
	return s.own("tanh", out)
}

// IndexSelect returns rows[i] of x [N, ...] in order; rows is an Int64 vector.
func (s *Scope) IndexSelect(x, rows Tensor) Tensor {
	var out lib.Ctensor
	lib.AtgIndexSelect(&out, x.c, 0, rows.c)
	return s.own("index_select", out)
}

// ArgMax returns the index of each row's largest element: x [M, V] -> [M] Int64.
func (s *Scope) ArgMax(x Tensor) Tensor {
	var out lib.Ctensor
	lib.AtgArgmax(&out, x.c, -1, 0, 0)
	return s.own("argmax", out)
}

// Matmul returns the matrix product of a and b.
func (s *Scope) Matmul(a, b Tensor) Tensor {
	var out lib.Ctensor
	lib.AtgMatmul(&out, a.c, b.c)
	return s.own("matmul", out)
}
