// softcap.glsl - cap * tanh(value / cap), by an exponential: of scores and of logits, where a model has one.
float soft_cap(float value) {
    float t = clamp(value / p.softcap, -20.0, 20.0);
    return p.softcap * (1.0 - 2.0 / (exp(2.0 * t) + 1.0));
}
