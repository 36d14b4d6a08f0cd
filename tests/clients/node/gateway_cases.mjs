// @ai-sdk/gateway under whichever AI SDK is handed in. Each has a path of its own.
import { counted, describe, question } from './cases.mjs';

const { url, model, hello, three } = question;
const many = Array.from({ length: 2049 }, (_, i) => `t${i}`);

export function casesOf({ embed, embedMany, createGateway, path }) {
  const make = (more = {}) => createGateway({ baseURL: `${url}${path}`, apiKey: 'any', ...more });
  const modelOf = (provider, id) => (provider.embeddingModel ?? provider.textEmbeddingModel)(id);
  const provider = make();
  const target = modelOf(provider, model);

  const read = (answer) => ({
    vectors: answer.embeddings ?? [answer.embedding],
    usage: answer.usage,
    metadata: answer.providerMetadata,
    request_id: answer.response?.headers?.['x-request-id'],
  });
  const one = async (fields = {}) => read(await embed({ model: target, value: hello, ...fields }));

  const failing = async (id, fields = {}, more = {}) => {
    const { calls, fetch } = counted();
    const other = modelOf(make({ fetch, ...more }), id);
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
      const split = modelOf(make({ fetch }), model);
      const { embeddings, usage } = await embedMany({ model: split, values: many });
      const some = [embeddings[0], embeddings[2047], embeddings[2048]];
      return { count: embeddings.length, vectors: some, requests: calls.length, usage };
    },
    // AI SDK 7 has the field; the others ignore it, and must be told by providerOptions.
    dimensions_top_level: () => one({ dimensions: 64 }),
    providerOptions: () =>
      one({
        providerOptions: {
          local: { dimensions: 128 },
          openai: { dimensions: 256 },
          gateway: { order: ['local'], user: 'u-1' },
        },
      }),
    string_model: async () => {
      globalThis.AI_SDK_DEFAULT_PROVIDER = provider;
      try {
        return await one({ model });
      } finally {
        delete globalThis.AI_SDK_DEFAULT_PROVIDER;
      }
    },
    upstream_model: () => one({ model: modelOf(provider, 'openai/text-embedding-3-small') }),
    fallback_used: () =>
      one({
        model: modelOf(provider, 'openai/text-embedding-3-small'),
        value: question.fails,
        providerOptions: { gateway: { models: [model] } },
      }),
    base_url_of_the_openai_routes: async () => {
      const other = modelOf(make({ baseURL: `${url}/v1` }), model);
      return read(await embed({ model: other, value: hello }));
    },
    getAvailableModels: async () => provider.getAvailableModels(),
    getCredits: async () => ({ credits: await provider.getCredits() }),
    getGenerationInfo: async () => {
      const keyed = make({ baseURL: `${question.keyed_url}${path}`, apiKey: question.key });
      const answer = await embed({ model: modelOf(keyed, model), value: hello });
      const id = answer.providerMetadata.gateway.generationId;
      return { id, info: await keyed.getGenerationInfo?.({ id }) };
    },
    with_a_key: async () => {
      const keyed = make({ baseURL: `${question.keyed_url}${path}`, apiKey: question.key });
      return read(await embed({ model: modelOf(keyed, model), value: hello }));
    },
    wrong_key: () =>
      failing(model, {}, { baseURL: `${question.keyed_url}${path}`, apiKey: 'gw_prod_no_no' }),
    unknown_model: () => failing('nobody/nothing'),
    empty_string: () => failing(model, { value: '' }),
    wrong_dimensions: () => failing(model, { providerOptions: { local: { dimensions: 100 } } }),
    // Told not to try again, since its own waits are seconds long.
    upstream_fails: () =>
      failing('openai/text-embedding-3-small', { value: question.fails, maxRetries: 0 }),
    upstream_limits: () =>
      failing('openai/text-embedding-3-small', { value: question.limits, maxRetries: 0 }),
  };
}
