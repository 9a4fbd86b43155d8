package torch

import "math"

// The layers again in plain Go and float64, as the papers give them. A matrix is a slice of rows.

type matrix [][]float64

func newMatrix(rows, cols int) matrix {
	m := make(matrix, rows)
	for i := range m {
		m[i] = make([]float64, cols)
	}
	return m
}

func (m matrix) flat() []float64 {
	var out []float64
	for _, row := range m {
		out = append(out, row...)
	}
	return out
}

func matrixOf(flat []float64, cols int) matrix {
	m := make(matrix, 0, len(flat)/max(1, cols))
	for i := 0; i < len(flat); i += cols {
		m = append(m, flat[i:i+cols])
	}
	return m
}

func refLinear(x, w matrix, b []float64) matrix {
	y := newMatrix(len(x), len(w))
	for i := range x {
		for o := range w {
			if b != nil {
				y[i][o] = b[o]
			}
			for k := range w[o] {
				y[i][o] += x[i][k] * w[o][k]
			}
		}
	}
	return y
}

// refNorm is LayerNorm(residual + x * mult) (Ba et al., 2016); residual and mult may be nil.
func refNorm(x, residual, mult matrix, w, b []float64, eps float64) matrix {
	y := newMatrix(len(x), len(w))
	for i := range x {
		z := make([]float64, len(w))
		mean, variance := 0.0, 0.0
		for k := range z {
			z[k] = x[i][k]
			if mult != nil {
				z[k] *= mult[i][k]
			}
			if residual != nil {
				z[k] += residual[i][k]
			}
			mean += z[k] / float64(len(z))
		}
		for _, v := range z {
			variance += (v - mean) * (v - mean) / float64(len(z))
		}
		for k := range z {
			y[i][k] = (z[k]-mean)/math.Sqrt(variance+eps)*w[k] + b[k]
		}
	}
	return y
}

func refSoftmax(row []float64) {
	top, sum := math.Inf(-1), 0.0
	for _, x := range row {
		top = max(top, x)
	}
	for j, x := range row {
		row[j] = math.Exp(x - top)
		sum += row[j]
	}
	for j := range row {
		row[j] /= sum
	}
}

// refAttention is softmax(scale q k^T) v a sample and head (Vaswani et al., 2017). mult returns the factor of a probability, for the
// query's index in the micro-batch, the head, and the key's index in the sample; nil: 1.
func refAttention(q, k, v matrix, queries, keys []int32, heads int, scale float64, mult func(query, head, key int) float64) matrix {
	out := newMatrix(len(q), len(v[0]))
	d := len(v[0]) / heads
	for s := range len(queries) - 1 {
		first := int(keys[s])
		for h := range heads {
			for i := int(queries[s]); i < int(queries[s+1]); i++ {
				p := make([]float64, int(keys[s+1])-first)
				for j := range p {
					for c := h * d; c < (h+1)*d; c++ {
						p[j] += scale * q[i][c] * k[first+j][c]
					}
				}
				refSoftmax(p)
				for j := range p {
					if mult != nil {
						p[j] *= mult(i, h, j)
					}
					for c := h * d; c < (h+1)*d; c++ {
						out[i][c] += p[j] * v[first+j][c]
					}
				}
			}
		}
	}
	return out
}

func refCrossEntropy(logits matrix, labels []int64, smoothing float64) float64 {
	sum := 0.0
	for i, row := range logits {
		top, total := math.Inf(-1), 0.0
		for _, x := range row {
			top = max(top, x)
		}
		for _, x := range row {
			total += math.Exp(x - top)
		}
		logTotal := top + math.Log(total)
		sum += (1 - smoothing) * (logTotal - row[labels[i]])
		for _, x := range row {
			sum += smoothing / float64(len(row)) * (logTotal - x)
		}
	}
	return sum
}
