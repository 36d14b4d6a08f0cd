// @ai-sdk/openai-compatible under whichever AI SDK is handed in.
import { counted, describe, question } from './cases.mjs';

const { url, model, hello, three } = question;
const many = Array.from({ length: 2049 }, (_, i) => `t${i}`);

export function casesOf({ embed, embedMany, createOpenAICompatible }) {
  const make = (more = {}) =>
    createOpenAICompatible({
      name: 'embedway',
      baseURL: `${url}/v1`,
      apiKey: 'any',
      headers: { 'x-tenant': 't1' },
      ...more,
    });
  const provider = make();
  const target = provider.textEmbeddingModel(model);

  const read = (answer) => ({
    vectors: answer.embeddings ?? [answer.embedding],
    usage: answer.usage,
    metadata: answer.providerMetadata,
    request_id: answer.response?.headers?.['x-request-id'],
  });
  const one = async (fields = {}) => read(await embed({ model: target, value: hello, ...fields }));

  const failing = async (id, fields = {}, more = {}) => {
    const { calls, fetch } = counted();
    const other = make({ fetch, ...more }).textEmbeddingModel(id);
    try {
      await embed({ model: other, value: hello, ...fields });
    } catch (error) {
      return { error: describe(error), requests: calls.length };
    }
    return { requests: calls.length };
  };

  return {
    embed: () => one(),
    embedMany: async () => read(await embedMany({ model: target, values: three })),
    embedMany_2049: async () => {
      const { calls, fetch } = counted();
      const split = make({ fetch }).textEmbeddingModel(model);
      const { embeddings, usage } = await embedMany({ model: split, values: many });
      const some = [embeddings[0], embeddings[2047], embeddings[2048]];
      return { count: embeddings.length, vectors: some, requests: calls.length, usage };
    },
    embedMany_maxParallel: async () =>
      read(await embedMany({ model: target, values: three, maxParallelCalls: 1 })),
    // AI SDK 7 has the field; 6 ignores it, and must be told by providerOptions.
    dimensions_top_level: () => one({ dimensions: 64 }),
    providerOptions_dimensions: () =>
      one({ providerOptions: { embedway: { dimensions: 64, user: 'u-1' } } }),
    providerOptions_other: () =>
      one({ providerOptions: { google: { taskType: 'RETRIEVAL_QUERY' } } }),
    embeddingModel: () => one({ model: (provider.embeddingModel ?? provider.textEmbeddingModel)(model) }),
    upstream_model: () => one({ model: provider.textEmbeddingModel('openai/text-embedding-3-small') }),
    with_a_key: async () => {
      const keyed = make({ baseURL: `${question.keyed_url}/v1`, apiKey: question.key });
      return read(await embed({ model: keyed.textEmbeddingModel(model), value: hello }));
    },
    wrong_key: () =>
      failing(model, {}, { baseURL: `${question.keyed_url}/v1`, apiKey: 'gw_prod_no_no' }),
    unknown_model: () => failing('nobody/nothing'),
    empty_string: () => failing(model, { value: '' }),
    wrong_dimensions: () => failing(model, { providerOptions: { embedway: { dimensions: 100 } } }),
    // It does not know x-should-retry: told not to, since its own waits are seconds long.
    upstream_fails: () =>
      failing('text-embedding-3-small', { value: question.fails, maxRetries: 0 }),
  };
}
