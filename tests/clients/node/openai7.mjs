// openai-node 7.
import OpenAI from 'openai';
import { main } from './cases.mjs';
import { casesOf } from './openai_cases.mjs';

await main(casesOf(OpenAI));
