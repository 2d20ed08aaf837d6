#include "layers.hpp"

namespace nf4bench {
namespace {

// Layers of one shape are named together: q/o, k/v, gate/up. Sources: the models' published configurations.
const Layer kLayers[] = {
    // model   name                     N      K
    {"llama", "llama70b.qo", 8192, 8192},        // Llama-3.3-70B
    {"llama", "llama70b.kv", 1024, 8192},        //
    {"llama", "llama70b.gate_up", 28672, 8192},  //
    {"llama", "llama70b.down", 8192, 28672},     //
    {"qwen", "qwen32b.q", 8192, 5120},           // Qwen3-32B
    {"qwen", "qwen32b.kv", 1024, 5120},          //
    {"qwen", "qwen32b.o", 5120, 8192},           //
    {"qwen", "qwen32b.gate_up", 25600, 5120},    //
    {"qwen", "qwen32b.down", 5120, 25600},       //
    {"gemma", "gemma27b.q", 4096, 5376},         // Gemma-3-27B
    {"gemma", "gemma27b.kv", 2048, 5376},        //
    {"gemma", "gemma27b.o", 5376, 4096},         //
    {"gemma", "gemma27b.gate_up", 21504, 5376},  //
    {"gemma", "gemma27b.down", 5376, 21504},     //
};

const Layer kGroups[] = {
    {"llama", "llama70b.q+k+v", 10240, 8192, {8192, 1024, 1024}},
    {"llama", "llama70b.gate+up", 57344, 8192, {28672, 28672}},
    {"qwen", "qwen32b.q+k+v", 10240, 5120, {8192, 1024, 1024}},
    {"qwen", "qwen32b.gate+up", 51200, 5120, {25600, 25600}},
    {"gemma", "gemma27b.q+k+v", 8192, 5376, {4096, 2048, 2048}},
    {"gemma", "gemma27b.gate+up", 43008, 5376, {21504, 21504}},
};

const Layer kHeldOutLayers[] = {
    {kHeldOut, "mistral24b.q", 4096, 5120},             // Mistral-Small-24B
    {kHeldOut, "mistral24b.gate_up", 32768, 5120},      //
    {kHeldOut, "mistral24b.down", 5120, 32768},         //
    {kHeldOut, "phi4.qkv", 7680, 5120},                 // Phi-4
    {kHeldOut, "phi4.o", 5120, 5120},                   //
    {kHeldOut, "phi4.gate_up", 35840, 5120},            //
    {kHeldOut, "phi4.down", 5120, 17920},               //
    {kHeldOut, "qwen7b.qo", 3584, 3584},                // Qwen2.5-7B
    {kHeldOut, "qwen7b.kv", 512, 3584},                 //
    {kHeldOut, "qwen7b.gate_up", 18944, 3584},          //
    {kHeldOut, "qwen7b.down", 3584, 18944},             //
    {kHeldOut, "qwen14b.gate_up", 13824, 5120},         // Qwen2.5-14B
    {kHeldOut, "qwen14b.down", 5120, 13824},            //
    {kHeldOut, "commandr.gate_up", 22528, 8192},        // Command-R
    {kHeldOut, "commandr.down", 8192, 22528},           //
    {kHeldOut, "deepseekv2lite.gate_up", 10944, 2048},  // DeepSeek-V2-Lite
    {kHeldOut, "deepseekv2lite.down", 2048, 10944},     //
    {kHeldOut, "flux.qkvo", 3072, 3072},                // FLUX.1
    {kHeldOut, "flux.mlp", 12288, 3072},                //
    {kHeldOut, "sd35.qkvo", 2432, 2432},                // Stable Diffusion 3.5 Large
};

}  // namespace

std::span<const Layer> layers() { return kLayers; }
std::span<const Layer> groups() { return kGroups; }
std::span<const Layer> held_out_layers() { return kHeldOutLayers; }

}  // namespace nf4bench
