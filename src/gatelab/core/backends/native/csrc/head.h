/* Rows of logits to the gradient of their cross-entropy, in place: what a language model's head needs between its
 * matrix products. Each row is read and written three times while it is in the nearest caches.
 */
#ifndef GATELAB_HEAD_H
#define GATELAB_HEAD_H

#include <math.h>

#include "vector.h"

#define CHAINS 4 /* independent sums: short chains round less and wait less */

INLINE vec exp_of(vec a) {
    split_exp e = exp_parts(clamp(a, 87.0f));
    return e.scale * e.rest + e.scale;
}

INLINE vec larger(vec a, vec b) {
    ivec first = a > b;
    return (vec)((first & (ivec)a) | (~first & (ivec)b));
}

/* z [V] += bias, total [V] += softmax(z), z = softmax(z) - (1 - s) [target] - s / V. `found` gets m - z[target],
 * the sum of exp(z - m), and m - mean(z), with m the largest z. */
static void head_row(float *z, const float *bias, idx vocabulary, idx target, float smoothing, float *found,
                     float *total) {
    idx whole = vocabulary - vocabulary % (CHAINS * W);
    vec highs[CHAINS], sums[CHAINS], masses[CHAINS];
    for (int j = 0; j < CHAINS; j++)
        highs[j] = all(-INFINITY), sums[j] = masses[j] = (vec){0};
    for (idx i = 0; i < whole; i += CHAINS * W)
        UNROLL for (int j = 0; j < CHAINS; j++) {
            vec a = load(z + i + j * W) + (bias ? load(bias + i + j * W) : (vec){0});
            store(z + i + j * W, a);
            highs[j] = larger(a, highs[j]);
            sums[j] += a;
        }
    float high = -INFINITY, sum = 0.0f, mass = 0.0f;
    for (idx i = whole; i < vocabulary; i++) {
        z[i] += bias ? bias[i] : 0.0f;
        high = z[i] > high ? z[i] : high;
        sum += z[i];
    }
    for (int k = 0; k < CHAINS * W; k++) {
        float a = highs[k / W][k % W];
        high = a > high ? a : high;
        sum += sums[k / W][k % W];
    }
    found[0] = high - z[target];
    found[2] = high - sum / (float)vocabulary;

    for (idx i = 0; i < whole; i += CHAINS * W)
        UNROLL for (int j = 0; j < CHAINS; j++) {
            vec e = exp_of(load(z + i + j * W) - high);
            store(z + i + j * W, e);
            masses[j] += e;
        }
    for (idx i = whole; i < vocabulary; i++)
        mass += z[i] = exp_of(all(z[i] - high))[0];
    for (int k = 0; k < CHAINS * W; k++)
        mass += masses[k / W][k % W];
    found[1] = mass;

    float share = 1.0f / mass, spread = smoothing / (float)vocabulary;
    for (idx i = 0; i < whole; i += W) {
        vec probability = load(z + i) * share;
        store(z + i, probability - spread);
        store(total + i, load(total + i) + probability);
    }
    for (idx i = whole; i < vocabulary; i++) {
        total[i] += z[i] *= share;
        z[i] -= spread;
    }
    z[target] -= 1.0f - smoothing;
}

#endif
