// openai-node 6.
import OpenAI from 'openai6';
import { main } from './cases.mjs';
import { casesOf } from './openai_cases.mjs';

await main(casesOf(OpenAI));
